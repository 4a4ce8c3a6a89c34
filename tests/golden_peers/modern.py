"""Record 20 steps of public implementations of younger rules and options.

``python tests/golden_peers/modern.py`` writes ``modern.json``, which says what was called, and
``modern.npz``, what came out, beside itself. It needs torch, optax, pytorch_optimizer and, on
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
- APOLLO draws normally distributed directions, and kron_torch such noise, and balances by chance:
  they are made to draw the signs that are drawn here, and to balance in every third fit. kron_torch
  solves its equations in float32, which is made float64. Vectors have no rank in APOLLO.
- SophiaG adds 1e-15 to what it divides by. It and optax's sophia take in the squares of the
  gradients of every third step, after the step.
- Lion of simply_pytorch averages what its sign is taken of: its ``1 - beta_2`` is that here divided
  by ``1 - beta_1``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import optax.contrib
import pytorch_optimizer
import torch

sys.path.append(str(Path(__file__).parent.parent))
from modern_references import signs

jax.config.update("jax_enable_x64", True)
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
    "sophia": "Liuhong99/Sophia@a7e1572",
    "apollo_torch": "zhuhanqing/APOLLO@76b3472",
    "kron_torch": "evanatyourservice/kron_torch@884427c",
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
    estimates: int = 0


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
    Case(
        "Sophia",
        {
            **{"lr": 0.05, "beta_1": 0.9, "beta_2": 0.8, "gamma": 2.0, "weight_decay": 0.2},
        },
        "Estimating(sophia.SophiaG(params, lr=0.05, betas=(0.9, 0.8), rho=2.0, weight_decay=0.2))",
        falling=True,
        estimates=3,
    ),
    Case(
        "Sophia",
        {
            **{"lr": 0.05, "beta_1": 0.9, "beta_2": 0.8, "gamma": 0.5, "clip_threshold": 2.0},
            **{"bias_correction": True, "epsilon": 1e-8, "weight_decay": 1e-4},
        },
        "Through(optax.contrib.sophia, params, lr=0.05, b1=0.9, b2=0.8, gamma=0.5, "
        "clip_threshold=2.0, update_interval=3, hessian_diagonal_fn=SQUARES)",
        estimates=3,
    ),
    Case(
        "APOLLO",
        {"lr": 0.1, "rank": 2},
        "apollo_torch.apollo.AdamW([{'params': params, 'rank': 2, 'update_proj_gap': 200, "
        "'scale': 1.0, 'scale_type': 'channel', 'proj': 'random', 'proj_type': 'std'}], lr=0.1)",
        arrays=(0, 1),
        falling=True,
    ),
    Case(
        "APOLLO",
        {
            **{"lr": 0.01, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3, "rank": 1},
            **{"scale_type": "tensor", "scale": 128.0, "update_proj_gap": 3},
        },
        "apollo_torch.apollo.AdamW([{'params': params[:2], 'rank': 1, 'update_proj_gap': 3, "
        "'scale': 128.0, 'scale_type': 'tensor', 'proj': 'random', 'proj_type': 'std'}, "
        "{'params': params[2:]}], lr=0.01, betas=(0.8, 0.95), eps=1e-3)",
    ),
    Case(
        "APOLLO",
        {"lr": 0.1, "rank": 2, "update_proj_gap": 7, "norm_growth": float("inf")},
        "apollo_torch.apollo.AdamW([{'params': params, 'rank': 2, 'update_proj_gap': 7, "
        "'scale': 1.0, 'scale_type': 'channel', 'proj': 'random', 'proj_type': 'std'}], lr=0.1, "
        "disable_nl=True)",
        arrays=(0, 1),
    ),
    Case(
        "Kron",
        {"lr": 0.05},
        "kron_torch.kron.Kron(params, lr=0.05, precond_dtype=torch.float64)",
        arrays=(0, 1),
        falling=True,
    ),
    Case(
        "Kron",
        {
            **{"lr": 0.05, "beta_1": 0.8, "weight_decay": 0.2, "update_probability": 0.5},
            **{"balance_frequency": 3, "precondition_lr": 0.5, "memory_save_mode": "one_diag"},
        },
        "kron_torch.kron.Kron(params, lr=0.05, b1=0.8, weight_decay=0.2, precond_lr=0.5, "
        "preconditioner_update_probability=0.5, memory_save_mode='one_diag', "
        "precond_dtype=torch.float64)",
        arrays=(0, 1),
    ),
    Case(
        "Kron",
        {
            **{"lr": 0.05, "update_probability": 1.0, "balance_frequency": 6},
            **{"max_size_triangular": 4, "memory_save_mode": "smart_one_diag"},
        },
        "kron_torch.kron.Kron(params, lr=0.05, preconditioner_update_probability=1.0, "
        "max_size_triangular=4, memory_save_mode='smart_one_diag', precond_dtype=torch.float64)",
        arrays=(0, 1),
    ),
]


def without_its_init(package: str, module: str) -> None:
    """Import a module of a package whose own file wants what is not needed for it."""
    places = [str(Path(place) / package) for place in sys.path]
    made = sys.modules[package] = ModuleType(package)
    made.__path__ = [place for place in places if Path(place).is_dir()]
    importlib.import_module(f"{package}.{module}")


def prepared_apollo() -> None:
    """Have APOLLO draw signs, those of the number of drawings before."""
    versions: Any = ModuleType("transformers.utils.versions")
    versions.require_version = lambda wanted: None
    sys.modules |= {name: ModuleType(name) for name in ("transformers", "transformers.utils")}
    sys.modules["transformers.utils.versions"] = versions
    without_its_init("apollo_torch", "apollo")

    def drawn(self: Any, matrix: Any, proj_type: str) -> None:
        side = matrix.shape[0 if proj_type == "left" else 1]
        found = torch.tensor(signs(side, self.rank, self.svd_count)) / self.rank**0.5
        self.ortho_matrix = found if proj_type == "left" else found.T
        self.svd_count += 1

    projector: Any = sys.modules["apollo_torch.apollo"]
    projector.GradientProjector.update_ortho_matrix = drawn


def prepared_kron() -> None:
    """Have kron_torch solve in float64, without a compiler."""
    torch.Tensor.float = lambda x: x  # type: ignore[method-assign,assignment]
    torch.compile = lambda function: function
    without_its_init("kron_torch", "kron")


class Sixth:
    """Chance that strikes every sixth time."""

    asked = 0

    def random(self) -> float:
        """Return 0 or 1."""
        self.asked += 1
        return float(self.asked % 6 != 0)


class Estimating:
    """SophiaG, which takes in an estimate after every third step, the first included."""

    def __init__(self, optimizer: Any) -> None:
        self.inner, self.param_groups, self.taken = optimizer, optimizer.param_groups, 0

    def step(self) -> None:
        """Step, and take the squares in."""
        self.inner.step(bs=1)
        if self.taken % 3 == 0:
            self.inner.update_hessian()
        self.taken += 1


class Through:
    """A transformation of optax that steps tensors."""

    def __init__(self, make: Any, params: Any, lr: float, **words: Any) -> None:
        self.params, self.param_groups = params, [{"lr": lr}]
        self.inner = make(lr, **words)
        self.state = self.inner.init(self.arrays())

    def arrays(self) -> list[Any]:
        """Return the parameters as arrays of JAX."""
        return [jax.numpy.asarray(p.detach().numpy()) for p in self.params]

    def step(self) -> None:
        """Step."""
        grads = [jax.numpy.asarray(p.grad.numpy()) for p in self.params]
        updates, self.state = self.inner.update(grads, self.state, self.arrays())
        for p, u in zip(self.params, updates, strict=True):
            p.data += torch.tensor(np.asarray(u))


SQUARES = optax.GradientTransformation(
    lambda params: optax.EmptyState(),
    lambda grads, state, params=None: (jax.tree.map(lambda g: g * g, grads), state),
)


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


TOOLS = {"Filtered": Filtered, "trained": trained, "Estimating": Estimating}
TOOLS |= {"Through": Through, "SQUARES": SQUARES}
PREPARED = {"apollo_torch": prepared_apollo, "kron_torch": prepared_kron}


def path_of(case: Case) -> list[list[np.ndarray]]:
    """Return the parameters after each step of what a call makes."""
    params = [torch.nn.Parameter(torch.tensor(START[i])) for i in case.arrays]
    if package_of(case) in {*PREPARED} - {*sys.modules}:
        PREPARED[package_of(case)]()
    modules = {name: importlib.import_module(name) for name in (package_of(case),)}
    named = [("linear.weight", params[0]), ("wq.weight", params[-1])]
    as_ours(case)
    for name in {"normuon", "adamuon"} & set(modules):
        alone(modules[name])
    made = eval(case.call, {**modules, "torch": torch, "params": params, "named": named, **TOOLS})
    if case.optimizer == "Kron":
        made.rng = Sixth()
    peak, path = made.param_groups[0]["lr"], []
    for t, row in enumerate(GRADIENTS):
        torch.randn_like = lambda x, t=t: torch.tensor(signs(len(x), x[0].numel(), t)).reshape(
            x.shape
        )
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
