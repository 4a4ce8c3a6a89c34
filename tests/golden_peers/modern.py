"""Record 20 steps of public implementations of younger rules and options.

``python tests/golden_peers/modern.py`` writes ``modern.json``, which says what was called, and
``modern.npz``, what came out, beside itself. It needs torch, pytorch_optimizer and, on
``PYTHONPATH``, checkouts of the repositories that `REPOSITORIES` names, and not this library.
Everything is computed in float64.

Each case trains a tall and a wide matrix and a vector, or some of them. Where a case is falling,
the learning rate goes down to 0.05 of itself in a line. Where conventions differ, the call or our
hyperparameters make up for it:

- Adam of simply_pytorch adds epsilon to the corrected root: ``preset="torch"``.
- pytorch_optimizer adds 1e-15 below some roots, which is set to 0.
- Lion of simply_pytorch averages what its sign is taken of: its ``1 - beta_2`` is that here divided
  by ``1 - beta_1``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_optimizer
import torch

torch.set_default_dtype(torch.float64)
for _name in ("apply_ams_bound", "apply_ams_bound_foreach"):
    getattr(pytorch_optimizer.base.optimizer.BaseOptimizer, _name).__defaults__ = (0.0,)

STEPS, SHAPES = 20, [(5, 3), (3, 4), (6,)]
RANDOM = np.random.default_rng(23)
START = [RANDOM.normal(size=shape) for shape in SHAPES]
GRADIENTS = [
    [RANDOM.normal(size=shape) * 10 ** RANDOM.uniform(-2, 1, size=shape) for shape in SHAPES]
    for _ in range(STEPS)
]

REPOSITORIES = {"simply_pytorch": "gdevos010/simply-pytorch@dad68d0"}
"""Where modules come from that are in no package."""


class Case(NamedTuple):
    """The same optimizer here and there."""

    optimizer: str
    hyperparameters: dict[str, Any]
    call: str
    arrays: tuple[int, ...] = (0, 1, 2)
    falling: bool = False
    tolerance: float = 1e-10


CASES = [
    Case(
        "Adam",
        {
            **{"lr": 0.1, "preset": "torch", "epsilon": 1e-3},
            **{"weight_decay": 0.5, "cautious_decay": True},
        },
        "simply_pytorch.Adam(params, lr=0.1, eps=1e-3, weight_decay=0.5, use_cautious_wd=True)",
    ),
    Case(
        "SGD",
        {"lr": 0.01, "weight_decay": 2.0, "cautious_decay": True},
        "simply_pytorch.SGD(params, lr=0.01, weight_decay=2.0, use_cautious_wd=True)",
        falling=True,
    ),
    Case(
        "Lion",
        {"lr": 0.05, "beta_1": 0.8, "beta_2": 0.99, "weight_decay": 0.5, "cautious_decay": True},
        "simply_pytorch.Lion(params, lr=0.05, betas=(0.8, 0.95), weight_decay=0.5, "
        "use_cautious_wd=True)",
    ),
    Case(
        "AdamW",
        {
            **{"lr": 0.1, "epsilon": 1e-3, "weight_decay": 0.5},
            **{"peak_lr": 0.1, "corrected_decay": True},
        },
        "pytorch_optimizer.AdamC([{'params': params, 'normalized': True}], lr=0.1, eps=1e-3, "
        "weight_decay=0.5)",
        falling=True,
    ),
]


def path_of(case: Case) -> list[list[np.ndarray]]:
    """Return the parameters after each step of what a call makes."""
    torch.manual_seed(5)
    params = [torch.nn.Parameter(torch.tensor(START[i])) for i in case.arrays]
    modules = {name: importlib.import_module(name) for name in (package_of(case),)}
    made = eval(case.call, {**modules, "torch": torch, "params": params})
    peak, path = made.param_groups[0]["lr"], []
    for t, row in enumerate(GRADIENTS):
        for p, i in zip(params, case.arrays, strict=True):
            p.grad = torch.tensor(row[i])
        if case.falling:
            made.param_groups[0]["lr"] = peak * (1.0 - t / STEPS)
        made.step()
        path.append([p.detach().numpy().copy() for p in params])
    return path


def package_of(case: Case) -> str:
    """Return the name of the package or module that a call takes from."""
    return case.call.partition(".")[0]


def version_of(package: str) -> str:
    """Return the version of a package, or where its module comes from."""
    return REPOSITORIES.get(package) or importlib.metadata.version(package)


def main() -> None:
    """Write both files."""
    arrays = {f"start/{i}": p for i, p in enumerate(START)}
    arrays |= {
        f"gradients/{i}": np.array([row[i] for row in GRADIENTS]) for i in range(len(SHAPES))
    }
    cases = []
    for case in CASES:
        package, path = package_of(case), f"{len(cases):02d}_{case.optimizer}"
        steps = path_of(case)
        for k, i in enumerate(case.arrays):
            arrays[f"{path}/{i}"] = np.array([step[k] for step in steps])
        told = {"package": package, "version": version_of(package), "path": path}
        cases.append(case._asdict() | told)
    target = Path(__file__).with_suffix(".json")
    target.write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")
    np.savez_compressed(target.with_suffix(".npz"), **arrays)


if __name__ == "__main__":
    main()
