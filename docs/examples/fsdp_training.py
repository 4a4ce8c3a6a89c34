"""Train sharded: ``torchrun --standalone --nproc-per-node=4 fsdp_training.py folder``.

Started again it goes on where it was, on any number of processes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import arrayoptim as ao


def main(folder: Path) -> None:
    """Train, and save every tenth step."""
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
    optimizer = ao.torch.Muon(model.parameters(), lr=0.01, clipnorm=1.0)
    first = 0
    if (folder / "last").exists():
        first = int((folder / "last").read_text())
        weights, state = get_state_dict(model, optimizer)
        dcp.load({"model": weights, "optimizer": state}, checkpoint_id=folder / f"{first}")
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)
    for step in range(first, first + 20):
        x = torch.randn(48, 4, generator=torch.Generator().manual_seed(step)).chunk(world)[rank]
        optimizer.zero_grad()
        loss = (model(x) - x.prod(dim=1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            weights, state = get_state_dict(model, optimizer)
            saved = {"model": weights, "optimizer": state}
            dcp.save(saved, checkpoint_id=folder / f"{step + 1}")
            if rank == 0:
                (folder / "last").write_text(str(step + 1))
            dist.barrier()
    dist.all_reduce(loss)
    if rank == 0:
        print(f"step {first + 20}: loss {float(loss.detach()) / world:.3f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
