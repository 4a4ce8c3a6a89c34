"""Steps with ``differentiable=True``: autograd goes through them, and the numbers stay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import arrayoptim as ao

DOUBLE = torch.float64
CASES: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "RMSprop": {"momentum": 0.5, "centered": True, "maximize": True},
    "Adagrad": {"lr_decay": 0.1},
    "Adadelta": {},
    "Adam": {"amsgrad": True},
    "AdamW": {},
    "Adamax": {},
    "NAdam": {},
    "RAdam": {},
    "ASGD": {"lambd": 0.1},
    "Lion": {},
    "LAMB": {},
}


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    """Let torch keep its numbers in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(DOUBLE)
    yield
    torch.set_default_dtype(before)


def unrolled(
    module: Any, name: str, steps: int, number: float = 0.7, **settings: Any
) -> tuple[Any, Any, Any]:
    """Return a loss after some steps whose gradients are functions of the start and a factor."""
    torch.manual_seed(2)
    start = [torch.randn(shape, dtype=DOUBLE, requires_grad=True) for shape in ((2, 3), (3,))]
    factor = torch.tensor(number, dtype=DOUBLE, requires_grad=True)
    params = [x.clone() for x in start]
    optimizer = getattr(module, name)(params, lr=0.05, differentiable=True, **settings)
    x = torch.randn(5, 2, dtype=DOUBLE)
    for _ in range(steps):
        w, b = (p.clone() for p in params)
        loss = (factor * torch.tanh(x @ w + b)).square().sum()
        for p, g in zip(params, torch.autograd.grad(loss, (w, b), create_graph=True), strict=True):
            p.grad = g
        optimizer.step()
    return sum((p**2).sum() for p in params), (*start, factor), optimizer


@pytest.mark.parametrize("name", [name for name in CASES if hasattr(torch.optim, name)])
def test_the_derivatives_of_torch(name: str) -> None:
    """Of a loss after a step, by the start and by a number in the loss.

    Over several steps torch's own fail, as they write what their derivatives need.
    """
    pairs = []
    for module in (ao.torch, torch.optim):
        # Torch's first momentum has no derivative by the gradient that it is.
        settings = {} if name == "SGD" else CASES[name]
        loss, inputs, _ = unrolled(module, name, 1, **settings)
        pairs.append((loss.detach(), *torch.autograd.grad(loss, inputs, allow_unused=True)))
    for ours, theirs in zip(*pairs, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "ASGD", "Lion", "LAMB"])
def test_derivatives_of_several_steps(name: str) -> None:
    """They are those of the steps, by differences."""
    loss, (_, _, factor), _ = unrolled(ao.torch, name, 3, **CASES[name])
    (found,) = torch.autograd.grad(loss, factor)
    assert torch.isfinite(found)
    more, less = (
        float(unrolled(ao.torch, name, 3, 0.7 + way, **CASES[name])[0].detach())
        for way in (1e-6, -1e-6)
    )
    wanted = (more - less) / 2e-6
    assert float(found) == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_stay(name: str) -> None:
    """A step that is recorded ends where the usual one does, and counts."""
    rows = []
    for recorded in (True, False):
        torch.manual_seed(2)
        start = [torch.randn(shape, dtype=DOUBLE) for shape in ((2, 3), (3,))]
        params = [x.requires_grad_(not recorded) for x in start]
        optimizer = getattr(ao.torch, name)(params, differentiable=recorded, **CASES[name])
        for step in range(4):
            for i, p in enumerate(params):
                late = i == 1 and step == 0
                p.grad = None if late else torch.full_like(p, step - 1.5, requires_grad=recorded)
            optimizer.step()
        rows.append((params, optimizer))
    for p, q in zip(*(params for params, _ in rows), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
    first, second = (row[1].state_dict()["state"] for row in rows)
    for i in first:
        assert first[i].keys() == second[i].keys()
        assert float(first[i]["step"]) == 4 - i


def test_what_is_refused() -> None:
    """Numbers of the host have no derivative; nothing has changed then."""
    p = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match=r"differentiable=True with clipnorm=1\.0"):
        ao.torch.SGD([p.clone()], clipnorm=1.0, differentiable=True)
    with pytest.raises(ValueError, match="a rule with totals over all parameters"):
        ao.torch.DoG([p.clone()], differentiable=True)
    optimizer = ao.torch.SGD([p], differentiable=True)
    p.grad = torch.ones(2)
    with pytest.raises(RuntimeError, match="is a leaf of the graph"):
        optimizer.step()
    assert torch.equal(p, torch.ones(2))
    q = p.clone()
    q.grad = torch.ones(2)
    rate = torch.tensor(0.1, requires_grad=True)
    optimizer = ao.torch.SGD([q], differentiable=True)
    optimizer.param_groups[0]["lr"] = rate
    with pytest.raises(ValueError, match="lr requires grad"):
        optimizer.step()
    assert torch.equal(q, torch.ones(2))
