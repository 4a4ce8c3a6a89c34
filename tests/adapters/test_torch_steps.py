"""What a step of torch's parameters costs besides its arithmetic, and who is told of it."""

from __future__ import annotations

from typing import Any

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
    assert counts[0] <= 162
    assert counts[1] <= 165
