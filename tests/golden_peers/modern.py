"""Record 20 steps of public implementations of younger rules and options.

``python tests/golden_peers/modern.py`` writes ``modern.json``, which says what was called, and
``modern.npz``, what came out, beside itself. It needs torch, pytorch_optimizer and, on
``PYTHONPATH``, checkouts of the repositories that `REPOSITORIES` names, and not this library.
Everything is computed in float64.

Each case trains a tall and a wide matrix and a vector, or some of them. Where a case is falling,
the learning rate goes down to 0.05 of itself in a line. Where conventions differ, the call or our
hyperparameters make up for it:

- Adam of simply_pytorch adds epsilon to the corrected root: ``preset="torch"``.
- MARS multiplies the decay of vectors by their own learning rate.
- GaLore of pytorch_optimizer decomposes in float32, renews its directions a step earlier and leaves
  their signs to chance: it is made to do as is done here.
- NorMuon and AdaMuon round to bfloat16, which is made to do nothing here; the latter runs on a CUDA
  device beside others, for which stands one process on the CPU.
- pytorch_optimizer adds 1e-15 below some roots, which is set to 0.
- Lion of simply_pytorch averages what its sign is taken of: its ``1 - beta_2`` is that here divided
  by ``1 - beta_1``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
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

REPOSITORIES = {
    "simply_pytorch": "gdevos010/simply-pytorch@dad68d0",
    "mars": "AGI-Arena/MARS@4831e28, MARS/optimizers",
    "came_pytorch": "yangluo7/CAME@e77c5c0",
    "grokfast": "ironjr/grokfast@93b2248",
    "adam_mini": "zyushun/Adam-mini@402aadf",
    "normuon": "zichongli5/NorMuon@d45c9a4",
    "adamuon": "Chongjie-Si/AdaMuon@369f0b3, gpt2/models/optimizers",
}
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
    Case(
        "MARS",
        {
            **{"lr": 0.1, "beta_1": 0.8, "beta_2": 0.95, "gamma": 0.1, "epsilon": 1e-3},
            **{"weight_decay": 0.2, "adam_lr_ratio": 0.5, "adam_weight_decay": 0.05},
        },
        "mars.MARS(params, lr=0.1, betas=(0.8, 0.95), gamma=0.1, eps=1e-3, weight_decay=0.2, "
        "lr_1d=0.05)",
    ),
    Case(
        "MARS",
        {"optimize_1d": True, "adam_weight_decay": 0.5, "variant": "lion"},
        "mars.MARS(params, mars_type='mars-lion', optimize_1d=True)",
    ),
    Case("CAME", {"lr": 0.01}, "came_pytorch.CAME(params, lr=0.01)"),
    Case(
        "CAME",
        {
            **{"lr": 0.01, "beta_1": 0.8, "beta_2": 0.95, "beta_3": 0.99, "epsilon_1": 1e-3},
            **{"epsilon_2": 1e-2, "clip_threshold": 0.5, "weight_decay": 0.5},
        },
        "came_pytorch.CAME(params, lr=0.01, betas=(0.8, 0.95, 0.99), eps=(1e-3, 1e-2), "
        "clip_threshold=0.5, weight_decay=0.5)",
        falling=True,
    ),
    Case(
        "AdamMini",
        {"lr": 0.1, "epsilon": 1e-3, "weight_decay": 0.5, "split": {"1": 3}},
        "adam_mini.Adam_mini(named, lr=0.1, eps=1e-3, weight_decay=0.5, dim=6, n_heads=9, "
        "verbose=False)",
        arrays=(0, 1),
    ),
    Case(
        "NorMuon",
        {"lr": 0.1, "scaling": "shape", "weight_decay": 0.5},
        "normuon.SingleDeviceNorMuon(params, lr=0.1, weight_decay=0.5)",
        arrays=(0, 1),
        falling=True,
    ),
    Case(
        "AdaMuon",
        {"lr": 0.1, "weight_decay": 0.5},
        "adamuon.AdaMuon(params, lr=0.1, weight_decay=0.5, rank=0, world_size=1)",
        arrays=(0, 1),
    ),
    Case(
        "AdaMuon",
        {"lr": 0.1, "momentum": 0.8, "beta_2": 0.8, "nesterov": False, "ns_steps": 3},
        "adamuon.AdaMuon(params, lr=0.1, momentum=0.8, nesterov=False, ns_steps=3, "
        "weight_decay=0.0, rank=0, world_size=1)",
        arrays=(0, 1),
    ),
    Case(
        "GaLore",
        {"lr": 0.1, "rank": 2, "update_proj_gap": 100},
        "pytorch_optimizer.GaLore([{'params': params, 'rank': 2, 'update_proj_gap': 100, "
        "'scale': 0.25, 'projection_type': 'std'}], lr=0.1)",
        falling=True,
    ),
    Case(
        "GaLore",
        {
            **{"lr": 0.1, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3},
            **{"rank": 1, "update_proj_gap": 3, "scale": 1.0},
        },
        "pytorch_optimizer.GaLore([{'params': params, 'rank': 1, 'update_proj_gap': 3, "
        "'scale': 1.0, 'projection_type': 'std'}], lr=0.1, betas=(0.8, 0.95), eps=1e-3)",
    ),
    Case(
        "Grokfast",
        {
            "inner": {
                "class_name": "AdamW",
                "config": {"lr": 0.1, "epsilon": 1e-3, "preset": "torch"},
            }
        },
        "Filtered(grokfast.gradfilter_ema, params, torch.optim.AdamW(params, lr=0.1, eps=1e-3))",
    ),
    Case(
        "Grokfast",
        {
            "inner": {
                "class_name": "SGD",
                "config": {"lr": 0.01, "momentum": 0.9, "preset": "torch"},
            },
            **{"alpha": 0.8, "lamb": 5.0},
        },
        "Filtered(grokfast.gradfilter_ema, params, torch.optim.SGD(params, lr=0.01, "
        "momentum=0.9), alpha=0.8, lamb=5.0)",
        falling=True,
    ),
    Case(
        "ScheduleFree",
        {
            "inner": {
                "class_name": "AdamW",
                "config": {
                    **{"lr": 0.1, "beta_1": 0.5, "epsilon": 1e-3, "weight_decay": 0.2},
                    "preset": "torch",
                },
            }
        },
        "trained(pytorch_optimizer.ScheduleFreeWrapper(torch.optim.AdamW(params, lr=0.1, "
        "betas=(0.5, 0.999), eps=1e-3, weight_decay=0.2)))",
        falling=True,
    ),
    Case(
        "ScheduleFree",
        {
            "inner": {"class_name": "Lion", "config": {"lr": 0.05, "weight_decay": 0.5}},
            **{"momentum": 0.6, "r": 1.0, "weight_lr_power": 1.0},
        },
        "trained(pytorch_optimizer.ScheduleFreeWrapper(pytorch_optimizer.Lion(params, lr=0.05, "
        "weight_decay=0.5), momentum=0.6, r=1.0, weight_lr_power=1.0))",
    ),
]


def steady(decomposed: Any) -> Any:
    """Return a decomposition whose vectors point to the side of those before, like ours."""
    known: dict[Any, Any] = {}

    def svd(x: Any, **words: Any) -> Any:
        u, s, vh = decomposed(x, **words)
        old_u, old_vh = known.get(x.shape, (u, vh))
        side = torch.where((vh * old_vh).sum(1) < 0, -1.0, 1.0)
        other = torch.where((u * old_u).sum(0) < 0, -1.0, 1.0)
        # Each of the two is used for one kind of matrix, and never both.
        known[x.shape] = (u * other, vh * side[:, None])
        return known[x.shape][0], s, known[x.shape][1]

    return svd


def as_ours(case: Case) -> None:
    """Have pytorch_optimizer's GaLore decompose in float64, count from 0, and keep signs."""
    if case.optimizer != "GaLore":
        return
    torch.Tensor.float = lambda x: x  # type: ignore[method-assign,assignment]
    torch.linalg.svd = steady(DECOMPOSED)
    projector = pytorch_optimizer.optimizer.utils.galore.GaLoreProjector
    projector.project = lambda self, g, step: PROJECT(self, g, step - 1)


DECOMPOSED = torch.linalg.svd
PROJECT = pytorch_optimizer.optimizer.utils.galore.GaLoreProjector.project


class Filtered:
    """An optimizer whose gradients a function filters first, that takes a model."""

    def __init__(self, function: Any, params: Any, optimizer: Any, **words: float) -> None:
        self.filter, self.params, self.inner, self.words = function, params, optimizer, words
        self.param_groups, self.means = optimizer.param_groups, None

    def named_parameters(self) -> Any:
        """Yield the parameters, as a model does."""
        return ((str(i), p) for i, p in enumerate(self.params))

    def step(self) -> None:
        """Filter, and step."""
        self.means = self.filter(self, self.means, **self.words)
        self.inner.step()


def trained(made: Any) -> Any:
    """Return an optimizer that has been told that it trains."""
    made.train()
    return made


class Alone:
    """One process, for what wants several: what one sends, one has."""

    def all_gather_into_tensor(self, target: Any, given: Any, **_: Any) -> Alone:
        """Copy what was given."""
        target.copy_(given)
        return self

    def wait(self) -> None:
        """Return at once."""


def alone(module: Any) -> None:
    """Have a module run in one process, on the CPU, in float64."""
    torch.Tensor.bfloat16 = lambda x: x  # type: ignore[method-assign,assignment]
    module.dist = Alone()
    empty = torch.empty

    class Torch:
        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

        def empty(self, *shape: int, **_: Any) -> Any:
            return empty(*shape)

    module.torch = Torch()


TOOLS = {"Filtered": Filtered, "trained": trained}


def path_of(case: Case) -> list[list[np.ndarray]]:
    """Return the parameters after each step of what a call makes."""
    params = [torch.nn.Parameter(torch.tensor(START[i])) for i in case.arrays]
    modules = {name: importlib.import_module(name) for name in (package_of(case),)}
    named = [("linear.weight", params[0]), ("wq.weight", params[-1])]
    as_ours(case)
    for name in {"normuon", "adamuon"} & set(modules):
        alone(modules[name])
    made = eval(case.call, {**modules, "torch": torch, "params": params, "named": named, **TOOLS})
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
    found = re.search(r"(\w+)\.[A-Za-z]", case.call)
    assert found is not None
    return found.group(1)


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
