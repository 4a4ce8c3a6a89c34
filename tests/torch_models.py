"""A small torch model and the ways in which the tests train it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch

import arrayoptim as ao
from optimizers_under_test import same


def model(dtype: Any = torch.float32) -> torch.nn.Sequential:
    """Return the same model each time."""
    torch.manual_seed(7)
    layers = torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)
    return torch.nn.Sequential(*layers).to(dtype)


def loss(net: Any, step: int = 0, dtype: Any = torch.float32) -> torch.Tensor:
    """Return the loss on data that depend on the step only."""
    x = torch.from_numpy(np.random.default_rng(step).standard_normal((6, 3))).to(dtype)
    return (net(x) - 1.0).square().mean()


def halves(net: Any, **settings: Any) -> list[dict[str, Any]]:
    """Return the parameters as two groups, the second with settings of its own."""
    return [{"params": net[0].parameters()}, {"params": net[2].parameters(), **settings}]


def train(net: Any, optimizer: Any, steps: range, dtype: Any = torch.float32) -> None:
    """Take steps."""
    for step in steps:
        optimizer.zero_grad()
        loss(net, step, dtype).backward()
        optimizer.step()


def values(net: Any) -> list[np.ndarray]:
    """Return copies of the parameters; those of 16 bits widened, which changes nothing."""
    wide = (p.detach().float() if p.element_size() == 2 else p.detach() for p in net.parameters())
    return [p.numpy().copy() for p in wide]


def slots(net: Any, optimizer: Any) -> list[np.ndarray]:
    """Return copies of all state, parameter by parameter."""
    entries = [optimizer.state[p] for p in net.parameters() if p in optimizer.state]
    return [
        x.detach().float().numpy().copy() if x.dtype == torch.bfloat16 else x.numpy().copy()
        for entry in entries
        for _, x in sorted(entry.items())
    ]


def agree(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    """Assert that two models and their optimizers are the same to the last bit."""
    same(values(one[0]), values(other[0]))
    same(slots(*one), slots(*other))


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """Return what torch loads of what it saved, where it trusts nothing but numbers."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def of(name: str) -> Any:
    """Return the class for torch of a registered optimizer."""
    return getattr(ao.torch, name)


def core_of(optimizer: Any, **more: Any) -> Any:
    """Return an optimizer of this library's own form, with the settings of the first group."""
    return optimizer.core(**optimizer.spelling.plain(optimizer.param_groups[0]), **more)


def words_of(optimizer: Any) -> dict[str, str]:
    """Return the names in torch's state of slots and scalar state, where they are others here."""
    found: dict[str, str] = optimizer.spelling.state_names(optimizer.param_groups[0]["preset"])
    return found


# ---- training that several processes share

ROWS = 8  # of a batch, which 1, 2 and 4 processes share evenly
SETTINGS: dict[str, dict[str, Any]] = {
    "Adam": {"lr": 0.02, "clipnorm": 0.05},
    "SGD": {"lr": 0.1, "momentum": 0.9, "nonfinite": "skip", "clipnorm": 1e9},
    "Nadam": {"lr": 0.02, "weight_decay": 0.1},
    "LAMB": {"lr": 0.02, "clipnorm": 0.05},
    "Prodigy": {"d0": 0.01},
    "Muon": {"lr": 0.02},
    "Adafactor": {"lr": 0.02, "ema_momentum": 0.9},
}
"""A norm that is always clipped, one that is only looked at, scalar state; sums over tensors, and
matrices."""


WRAPPED: dict[str, Any] = {
    "Grokfast": lambda: ao.Grokfast(ao.Adam(0.02, clipnorm=0.05), alpha=0.5),
    "ScheduleFree": lambda: ao.ScheduleFree(ao.SGD(0.1)),
    "Lookahead": lambda: ao.Lookahead(ao.Muon(0.02, measure="update"), k=2),
}
"""Wrappers, which step whole tensors."""


def batch(step: int, rank: int, world: int) -> torch.Tensor:
    """Return the part of a batch that belongs to a process."""
    torch.manual_seed(100 + step)
    return torch.randn(ROWS, 3, dtype=torch.float64).chunk(world)[rank]


def course(net: Any, optimizer: Any, steps: range, rank: int = 0, world: int = 1) -> None:
    """Take steps, of which the one numbered 1 has a gradient that is not finite for SGD."""
    for step in steps:
        optimizer.zero_grad()
        loss = (net(batch(step, rank, world)) - 1.0).square().mean()
        if step == 1 and optimizer.param_groups[0].get("nonfinite") == "skip":
            loss = loss * float("inf" if rank == 0 else "1")
        loss.backward()
        optimizer.step()


# ---- parameters of which several processes hold parts

SHAPES: dict[str, tuple[int, ...]] = {
    "rows": (5, 3),
    "columns": (3, 7),
    "both": (6, 4),
    "twice": (9, 2),
    "kernel": (3, 2, 2, 2),
    "vector": (7,),
    "short": (1,),
    "empty": (0, 3),
    "left out": (2, 2),
}
"""Uneven parts, ones that are empty, and a parameter that lacks its gradient at first."""

OPTIONS: dict[str, dict[str, Any]] = {
    "clipnorm": {"clipnorm": 0.5, "weight_decay": 0.1},
    "each": {"clipnorm_per_tensor": 0.3, "ema_momentum": 0.9},
    "agc first": {"agc": 0.05, "agc_units": "first"},
    "agc tensor": {"agc": 0.05, "agc_units": "tensor"},
    "constraint": {"constraint": ao.constraints.MaxNorm(0.8, axis=0)},
    "cautious": {"cautious": True},
    "small": {"state_dtype": "bfloat16"},
    "measured": {"measure": ("gradient", "update", "weight")},
    "spikes": {"skip_spikes": 3.0, "spike_window": 2},
    "decays": {
        **{"weight_decay": 0.1, "cautious_decay": True},
        **{"corrected_decay": True, "peak_lr": 0.02},
    },
}
CHOICES = [
    *ao.names(),
    *(f"{name} {option}" for name in ("Adam", "LAMB", "Muon") for option in OPTIONS),
]
CHOICES += ["Adam late"]
CHOICES += [f"{name} mixed" for name in ("Adam", "LAMB", "Muon", "Adafactor")]
CHOICES += ["GaLore measured", "NorMuon spikes"]
CHOICES = [c for c in CHOICES if c not in {"LAMB cautious", "Muon cautious", "LAMB decays"}]


def tensors(case: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return tensors of many shapes, and of several data types where the case says so."""
    rng = np.random.default_rng(seed)
    kinds = {"rows": torch.bfloat16, "columns": torch.float16, "vector": torch.bfloat16}
    mixed = case.endswith("mixed")
    return {
        name: torch.from_numpy(rng.standard_normal(s)).to(
            kinds.get(name, torch.float32) if mixed else torch.float64
        )
        for name, s in SHAPES.items()
    }


def slopes(case: str, step: int) -> dict[str, torch.Tensor | None]:
    """Return a gradient for each of them; a spike in the third step, where spikes are left out."""
    size = 1e3 if case.endswith("spikes") and step == 2 else 1.0
    found = {name: size * g for name, g in tensors(case, 1 + step).items()}
    return {**found, **({"left out": None} if step < 2 else {})}


def reported(optimizer: Any) -> torch.Tensor:
    """Return the numbers that the last step has told of each group."""
    found = [
        [float(report.applied), report.score or 0.0]
        + [norms[path] for _, norms in sorted(report.norms.items()) for path in sorted(norms)]
        for report in optimizer.last_step
    ]
    return torch.tensor([x for row in found for x in row], dtype=torch.float64)


def chosen(case: str, params: dict[str, Any]) -> Any:
    """Return one of `CHOICES` over some parameters, of which two have another learning rate."""
    name, _, option = case.partition(" ")
    # These two count the steps of all parameters together.
    apart = {"columns", "vector", *(["left out"] if name in {"DoG", "Prodigy"} else [])}
    rest = [p for key, p in params.items() if key not in apart]
    groups = [{"params": rest}, {"params": [params["columns"], params["vector"]], "lr": 0.02}]
    return getattr(ao.torch, name)(groups, **OPTIONS.get(option, {}))


def before(case: str, optimizer: Any, step: int) -> None:
    """Set, in the midst of a training, what brings parts together from then on."""
    if case.endswith("late") and step == 2:
        for group in optimizer.param_groups:
            group["agc"] = 0.05
