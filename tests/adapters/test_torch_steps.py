"""What a step of torch's parameters costs besides its arithmetic, and who is told of it."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

import arrayoptim as ao
from call_counts import counted


def test_profilers_and_hooks_of_all_optimizers() -> None:
    """A profiler records steps under torch's name, and hooks of all optimizers see them once."""
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = ao.torch.Adam([p])
    seen = []
    for hook in (register_optimizer_step_pre_hook, register_optimizer_step_post_hook):
        handle = hook(lambda *_: seen.append(p.tolist()))
        p.grad = torch.ones(3)
        optimizer.step()
        handle.remove()
        optimizer.step()
    assert len(seen) == 2
    activity = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity]) as found:
        optimizer.step()
    assert [e.key for e in found.key_averages() if "Adam.step" in e.key] == [
        "Optimizer.step#Adam.step"
    ]
    assert torch.is_grad_enabled()


class _Halving(ao.torch.SGD):  # type: ignore[misc]
    """An optimizer of a user, whose step calls that of this library."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["lr"] *= 0.5
        return super().step(closure)


def test_hooks_of_a_subclass_run_once() -> None:
    """A subclass with a step of its own has its hooks called once, whatever was made before."""
    ao.torch.SGD([torch.nn.Parameter(torch.ones(3))])  # whose step is wrapped from then on
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer, seen = _Halving([p], lr=1.0), []
    optimizer.register_step_post_hook(lambda *_: seen.append(p.detach().tolist()))
    optimizer.step()
    assert seen == [[0.5, 0.5, 0.5]]


@pytest.mark.parametrize("options", [{}, {"clipnorm": 1.0}, {"maximize": True}], ids=str)
def test_gradients_are_free_after_a_step(options: dict[str, Any]) -> None:
    """No step keeps the gradients that it has checked."""
    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(3)]
    optimizer = ao.torch.Adam(
        [{"params": params[:2]}, {"params": params[2:], "lr": 0.1}], **options
    )
    for _ in range(3):
        for p in params:
            p.grad = torch.ones(3)
        optimizer.step()
    held = [weakref.ref(p.grad) for p in params]
    optimizer.zero_grad()
    assert [ref() for ref in held] == [None, None, None]


def test_a_replaced_tensor_among_many() -> None:
    """One that replaces another in the state of many parameters is stepped from then on."""
    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(200)]
    optimizer = ao.torch.Adam(params, lr=0.1)
    for p in params:
        p.grad = torch.ones(3)
    for _ in range(3):
        optimizer.step()
    new = torch.full((3,), 10.0)
    optimizer.state[params[150]]["exp_avg"] = new
    optimizer.step()
    assert optimizer.state[params[150]]["exp_avg"] is new
    torch.testing.assert_close(new, torch.full((3,), 9.1))
    # 1 - 0.3 after three steps of about 0.1, and one by the new average.
    torch.testing.assert_close(params[149].detach(), torch.full((3,), 0.6), rtol=0, atol=1e-4)
    assert (params[150] < 0.0).all()


def test_what_a_step_asks() -> None:
    """A step of the same tensors makes few calls, and none for each tensor in Python."""
    counts = []
    for n in (4, 128, 512):
        params = [torch.nn.Parameter(torch.ones(3)) for _ in range(n)]
        optimizer = ao.torch.Adam(params)
        for p in params:
            p.grad = torch.ones(3)
        for _ in range(3):
            optimizer.step()
        with counted() as calls:
            optimizer.step()
        counts.append(calls.count)
    # Few and many are compared with those of the last step in different ways.
    assert counts[1] == counts[2]
    assert counts[0] <= 165
    assert counts[1] <= 168
