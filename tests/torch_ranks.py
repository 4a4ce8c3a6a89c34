"""One process of several that train together; `test_torch_distributed` starts it and compares."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

import arrayoptim as ao
from arrayoptim.step.session import session_of
from torch_models import (
    CHOICES,
    SETTINGS,
    WRAPPED,
    batch,
    before,
    chosen,
    course,
    halves,
    model,
    reported,
    slopes,
    tensors,
)


def whole(net: Any) -> list[torch.Tensor]:
    """Return the parameters, gathered where they are shared out."""
    return [p.full_tensor() if hasattr(p, "full_tensor") else p.detach() for p in net.parameters()]


def made(name: str, net: Any) -> Any:
    """Return an optimizer with two groups over a model."""
    return getattr(ao.torch, name)(halves(net, lr=0.03), **SETTINGS[name])


def sharded(net: Any, world: int, *, replicas: int = 1) -> Any:
    """Return a model whose parameters the processes share out, layer by layer."""
    shape, names = (world,), ("shard",)
    if replicas > 1:
        shape, names = (replicas, world // replicas), ("replicate", "shard")
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
    for layer in (net[0], net[2], net):
        fully_shard(layer, mesh=mesh)
    return net


def fully_sharded(rank: int, world: int, folder: Path, replicas: int = 1) -> dict[str, Any]:
    """Train with FSDP; the fused loops serve each process's part."""
    found = {}
    for name in SETTINGS:
        net = sharded(model(torch.float64), world, replicas=replicas)
        optimizer = made(name, net)
        course(net, optimizer, range(6), rank, world)
        assert all(
            not session_of(part.core).engines(part.held.leaves, part.held.structure).others
            for part in optimizer._parts
            if name not in {"Muon", "Adafactor"}
        )
        for p in net.parameters():
            slots = [x for x in optimizer.state[p].values() if x.ndim]
            assert {type(x) for x in slots} == {type(p.data)}
            assert {x.placements for x in slots} == {p.placements}, name
        found[name] = whole(net)
    return found


def hybrid(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Train with two copies of the model, each of them shared out."""
    return fully_sharded(rank, world, folder, replicas=2)


def replicated(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Train with DDP."""
    found = {}
    for name in SETTINGS:
        net = model(torch.float64)
        course(DistributedDataParallel(net), optimizer := made(name, net), range(6), rank, world)
        found[name] = whole(net)
        assert optimizer.state[net[0].bias]["step"] == (5 if name == "SGD" else 6)
    return found


def wrapped(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Train with DDP and wrappers, which step the tensors by themselves."""
    found = {}
    for name, made in WRAPPED.items():
        net, optimizer = model(torch.float64), made()
        copy = DistributedDataParallel(net)
        for step in range(6):
            copy.zero_grad()
            (copy(batch(step, rank, world)) - 1.0).square().mean().backward()
            params = dict(net.named_parameters())
            optimizer.apply({key: p.grad for key, p in params.items()}, params)
        found[name] = whole(net)
    return found


def redundancy_free(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Train with the state shared out, stop half-way, and go on from its state dict."""
    # This import warns, which is an error where pytest looks for examples in all modules.
    from torch.distributed.optim import ZeroRedundancyOptimizer

    found = {}
    for name in ("Adam", "Nadam"):
        net, other = model(torch.float64), model(torch.float64)
        optimizer, again = (
            ZeroRedundancyOptimizer(
                m.parameters(), optimizer_class=getattr(ao.torch, name), lr=0.02, eps=1e-7
            )
            for m in (net, other)
        )
        course(DistributedDataParallel(net), optimizer, range(3), rank, world)
        optimizer.consolidate_state_dict(to=0)
        saved = [net.state_dict(), optimizer.state_dict() if rank == 0 else None]
        dist.broadcast_object_list(saved)
        other.load_state_dict(saved[0])
        again.load_state_dict(saved[1])
        course(DistributedDataParallel(other), again, range(3, 6), rank, world)
        found[name] = whole(other)
    return found


def save(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Train half-way and write a checkpoint."""
    for name in SETTINGS:
        net = sharded(model(torch.float64), world)
        optimizer = made(name, net)
        course(net, optimizer, range(3), rank, world)
        weights, state = get_state_dict(net, optimizer)
        dcp.save({"model": weights, "optimizer": state}, checkpoint_id=folder / name)
    return {}


def resume(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Read the checkpoint that another number of processes wrote, and train on."""
    found = {}
    for name in SETTINGS:
        net = sharded(model(torch.float64), world)
        optimizer = made(name, net)
        weights, state = get_state_dict(net, optimizer)
        dcp.load({"model": weights, "optimizer": state}, checkpoint_id=folder / name)
        set_state_dict(net, optimizer, model_state_dict=weights, optim_state_dict=state)
        course(net, optimizer, range(3, 6), rank, world)
        found[name] = whole(net)
    return found


def laid_out(world: int) -> tuple[Any, dict[str, list[Any]]]:
    """Return a mesh, and how each parameter lies over it: by rows, by columns, or by both."""
    if world < 4:
        mesh = init_device_mesh("cpu", (world,))
        rows, columns, both = [Shard(0)], [Shard(1)], [Shard(0)]
        return mesh, {"columns": columns, "both": both, "": rows}
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("one", "other"))
    places = {
        "columns": [Replicate(), Shard(1)],
        "both": [Shard(0), Shard(1)],
        "twice": [Shard(0), Shard(0)],
        "": [Replicate(), Shard(0)],
    }
    return mesh, places


def spread(mesh: Any, places: dict[str, list[Any]], name: str, x: torch.Tensor) -> Any:
    """Return a tensor of which each process has a part."""
    return distribute_tensor(x, mesh, places.get(name, places[""]))


def each_rule(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Step the same parameters in parts, by every optimizer and with every option."""
    mesh, places = laid_out(world)
    found = {}
    for case in CHOICES:
        params = {
            name: torch.nn.Parameter(spread(mesh, places, name, x))
            for name, x in tensors(case).items()
        }
        optimizer = chosen(case, params)
        for step in range(4):
            before(case, optimizer, step)
            for name, g in slopes(case, step).items():
                params[name].grad = None if g is None else spread(mesh, places, name, g)
            optimizer.step()
        found[case] = [*(p.full_tensor() for p in params.values()), reported(optimizer)]
        slots = [x for entry in optimizer.state.values() for x in entry.values() if x.ndim]
        assert all(type(x) is DTensor for x in slots)
        # Each of them in parts: more processes hold less each.
        assert all(x.to_local().numel() < x.numel() for x in slots if min(x.shape) > 1)
    return found


@ao.rule(slots=("momentum",), kind="matrix")
def fails(p, g, m, lr, xp):  # type: ignore[no-untyped-def]
    """Step nothing that has five rows."""
    return p - lr * xp.reshape(g, (2, -1)), m


class Fails(ao.Optimizer):
    """Step by a rule that fails for one matrix, in the process that steps it."""

    lr: Any = ao.hyper(default=0.1, interval="[0, inf)")
    rule = fails

    def coefficients(self, h: Any, it: Any, scalars: Any, xp: Any) -> dict[str, Any]:
        """Compute the coefficients of one step."""
        return {"lr": h.lr}


def refusals(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Say what a part of a parameter does not allow."""
    net = sharded(model(), world)
    net(torch.ones(2, 3)).sum().backward()
    plain = ao.torch.Adam(net.parameters())
    plain.step()
    plain.state[net[0].bias]["momentum"] = torch.zeros(5)
    words = []
    for optimizer in (
        ao.torch.Adam(net.parameters(), state_dtype="int8"),
        plain,
        ao.torch.DoG(net.parameters(), agc=0.1),
        ao.torch.wrap(Fails(), net.parameters()),
    ):
        try:
            optimizer.step()
        except (ValueError, RuntimeError) as error:
            words.append(str(error))
    params = dict(net.named_parameters())
    grads = {name: p.grad for name, p in params.items()}
    for act in (
        lambda: ao.torch.LBFGS(net.parameters()),
        lambda: ao.torch.Adam(net.parameters(), models=2),
        lambda: ao.Adam().apply(grads, params),
        lambda: ao.Grokfast("adam").apply({"a": grads["0.bias"]}, {"a": params["0.bias"]}),
        lambda: ao.Muon().init_state(params),
    ):
        try:
            act()
        except (TypeError, ValueError) as error:
            words.append(str(error))
    return {"words": words}


def killed(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Lose one process in the midst of a training that saves at every step."""
    net = sharded(model(torch.float64), world)
    optimizer = ao.torch.Muon(net.parameters(), lr=0.02)
    for step in range(100):
        course(net, optimizer, range(step, step + 1), rank, world)
        weights, state = get_state_dict(net, optimizer)
        dcp.save({"model": weights, "optimizer": state}, checkpoint_id=folder / f"run {step}")
        if step == 2 and rank == world - 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return {}


CASES: dict[str, Callable[[int, int, Path], dict[str, Any]]] = {
    each.__name__: each
    for each in (
        *(fully_sharded, hybrid, replicated, wrapped, redundancy_free),
        *(save, resume, refusals, each_rule, killed),
    )
}


def main() -> None:
    """Join the other processes, train, and let the first one write what came of it."""
    case, rank, world, meeting, folder = sys.argv[1], *map(int, sys.argv[2:4]), *sys.argv[4:6]
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
    torch.set_num_threads(1)
    store = dist.FileStore(meeting, world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    found = CASES[case](rank, world, Path(folder))
    if rank == 0:
        torch.save(found, Path(folder) / f"{case}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
