"""The wrapper of `step` for hooks and profilers, at no cost when there are none."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.autograd import profiler
from torch.optim import optimizer


def hooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step that calls the optimizer's hooks, and is recorded by profilers.

    Torch's own wrapper does so at a cost of 7 us; it is only called if there is a hook or a
    profiler.

    Parameters
    ----------
    step : callable
        A method of an optimizer.
    """
    whole = torch.optim.Optimizer.profile_hook_step(step)

    @wraps(step)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked = (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or optimizer._global_optimizer_pre_hooks
            or optimizer._global_optimizer_post_hooks
            or profiler._is_profiler_enabled
            or torch._C._autograd._profiler_enabled()
        )
        # A step method that calls its base class's is still one step.
        if asked and not self._told:
            self._told = True
            try:
                return whole(self, *args, **kwargs)
            finally:
                self._told = False
        return step(self, *args, **kwargs)

    wrapper.hooked = True  # type: ignore[attr-defined]
    return untraced(wrapper)


def untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose own lines torch.compile leaves alone, unlike those that it calls.

    Without a wrapper, which costs a microsecond in each call.

    Parameters
    ----------
    function : callable
        A function of Python.
    """
    found: Callable[..., Any] = torch._dynamo.decorators.skip(function)
    return found
