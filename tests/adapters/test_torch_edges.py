"""Numbers at which a formula degenerates: taken, and computed, wherever torch's own class does."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import arrayoptim as ao

INF, NAN = math.inf, math.nan

TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.0}),
    ("SGD", {"momentum": 1.5}),
    ("SGD", {"momentum": 0.9, "dampening": 1.5}),
    ("SGD", {"momentum": 0.9, "dampening": -1.0}),
    ("SGD", {"momentum": NAN}),
    ("SGD", {"lr": NAN}),
    ("SGD", {"lr": INF}),
    ("SGD", {"weight_decay": INF}),
    ("Adam", {"eps": 0.0, "betas": (0.0, 0.0)}),
    ("Adam", {"eps": INF}),
    ("Adam", {"lr": INF}),
    ("Adam", {"lr": True}),
    ("Adam", {"amsgrad": torch.tensor(True)}),
    ("Adam", {"betas": torch.tensor([0.5, 0.75], dtype=torch.float64)}),
    ("AdamW", {"weight_decay": 0.0, "eps": 0.0}),
    ("Adamax", {"eps": INF}),
    ("NAdam", {"momentum_decay": INF}),
    ("RAdam", {"betas": (0.0, 0.0), "eps": 0.0}),
    ("RMSprop", {"alpha": 1.0}),
    ("RMSprop", {"alpha": 1.5, "eps": 1.0}),
    ("RMSprop", {"momentum": INF}),
    ("Rprop", {"step_sizes": (0.0, INF)}),
    ("Adagrad", {"lr_decay": INF}),
    ("Adagrad", {"initial_accumulator_value": INF}),
    ("Adadelta", {"rho": 1.0}),
    ("Adadelta", {"eps": INF}),
    ("ASGD", {"alpha": NAN}),
    ("ASGD", {"lambd": -INF}),
    ("ASGD", {"t0": INF}),
    ("Adafactor", {"lr": INF}),
    ("Muon", {"momentum": 1.5}),
    ("Muon", {"eps": -0.1}),
    ("Muon", {"ns_steps": 0}),
]

REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("Adam", {"betas": (1.0, 0.9)}),
    ("Adam", {"betas": (0.9, 1.0)}),
    ("Adam", {"betas": (0.5,)}),
    ("Adam", {"betas": 0.5}),
    ("Adam", {"betas": None}),
    ("Adam", {"eps": -1.0}),
    ("Adam", {"lr": NAN}),
    ("Adam", {"lr": torch.tensor([1.0, 2.0])}),
    ("AdamW", {"weight_decay": -1.0}),
    ("Adadelta", {"rho": 1.5}),
    ("Adadelta", {"rho": (0.9, 1.5)}),
    ("Adafactor", {"eps": 0.5}),
    ("Adagrad", {"lr_decay": -0.5}),
    ("NAdam", {"momentum_decay": -0.2}),
    ("RMSprop", {"momentum": -1.0}),
    ("Rprop", {"etas": (1.0, 0.5)}),
    ("SGD", {"momentum": -0.5}),
    ("SGD", {"nesterov": True}),
    ("SparseAdam", {"betas": (1.0, 0.0)}),
]


def trained(module: Any, which: str, settings: dict[str, Any]) -> torch.Tensor:
    """Return parameters after five steps, in which some gradients are 0."""
    shapes = [(4, 3)] if which == "Muon" else [(4, 3), (3,)]
    draw = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.linspace(-1, 1, math.prod(s)).double()) for s in shapes]
    params = [torch.nn.Parameter(p.detach().reshape(s)) for p, s in zip(params, shapes)]
    optimizer = getattr(module, which)(params, **settings)
    for k in range(5):
        for p in params:
            p.grad = torch.randn(p.shape, generator=draw, dtype=p.dtype)
            if p.ndim == 1:
                p.grad *= k % 3 > 0
        optimizer.step()
    return torch.cat([p.detach().ravel() for p in params])


@pytest.mark.parametrize(("which", "settings"), TAKEN, ids=str)
def test_taken(which: str, settings: dict[str, Any]) -> None:
    """The numbers are torch's, infinite ones and NaN too."""
    wanted = trained(torch.optim, which, settings)
    found = trained(ao.torch, which, settings)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize(("which", "settings"), REFUSED, ids=str)
def test_refused(which: str, settings: dict[str, Any]) -> None:
    """The error is caught as torch's is, and has torch's words."""
    params = [torch.nn.Parameter(torch.ones(2, 2))]
    with pytest.raises(Exception, match=r".") as theirs:
        getattr(torch.optim, which)(params, **settings)
    with pytest.raises(theirs.type) as ours:
        getattr(ao.torch, which)(params, **settings)
    assert str(theirs.value) in str(ours.value)


def test_what_is_written_into_a_group() -> None:
    """It may be what the constructor takes, and is refused where that refuses it."""
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = ao.torch.SGD([w], lr=0.5)
    w.grad = torch.ones(2)
    optimizer.param_groups[0]["lr"] = math.inf
    optimizer.step()
    assert w.tolist() == [-math.inf] * 2
    optimizer = ao.torch.SGD([w], lr=0.5)
    optimizer.param_groups[0]["lr"] = -0.5
    with pytest.raises(ValueError, match=r"SGD.lr must be.*Invalid learning rate: -0.5"):
        optimizer.step()


def test_classes_that_torch_lacks() -> None:
    """Their intervals are those of this library."""
    with pytest.raises(ValueError, match=r"Lion.beta_2 must be a number in \[0, 1\)"):
        ao.torch.Lion([torch.nn.Parameter(torch.ones(2))], betas=(0.9, 1.0))
    with pytest.raises(ValueError, match=r"Adam.agc must be"):
        ao.torch.Adam([torch.nn.Parameter(torch.ones(2))], agc=-1.0)
