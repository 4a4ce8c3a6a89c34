"""
torch: groups, a scheduler and a scaler
=======================================

A small network is trained, stopped halfway and resumed from a checkpoint, to the same end.
Two groups of parameters, a scheduler and a loss scaler, as with an optimizer of torch itself.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

import arrayoptim as ao


def start() -> dict[str, Any]:
    """Make everything that a training consists of."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    groups = [
        {"params": model[0].parameters()},
        {"params": model[2].parameters(), "lr": 0.02, "weight_decay": 0.01},
    ]
    optimizer = ao.torch.Adam(groups, lr=0.05, betas=(0.9, 0.99), clipnorm=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=200)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}


def train(parts: dict[str, Any], steps: range) -> float:
    """Learn to multiply two numbers."""
    model, optimizer, scheduler, scaler = parts.values()
    for step in steps:
        x = torch.rand(64, 2, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss = (model(x) - x.prod(dim=1, keepdim=True)).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
    return float(loss.detach())


# %%
# ``state_dict`` and ``load_state_dict`` are those of torch.

if __name__ == "__main__":
    whole = train(start(), range(200))
    parts = start()
    train(parts, range(100))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "training.pt"
        torch.save({name: part.state_dict() for name, part in parts.items()}, file)
        again, saved = start(), torch.load(file, weights_only=True)
    for name, part in again.items():
        part.load_state_dict(saved[name])
    resumed = train(again, range(100, 200))
    print(f"loss after 200 steps: {whole:.6f}; stopped half-way and resumed: {resumed:.6f}")
    assert resumed == whole < 0.01
