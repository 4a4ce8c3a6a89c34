"""The wrapper of `step` that torch's optimizers have, without its cost where nobody asks for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.autograd import profiler
from torch.compiler import is_dynamo_compiling
from torch.optim import optimizer


def hooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step that calls the hooks of its optimizer, and is recorded by profilers.

    That is what torch's own wrapper does. It takes 7 us, and is called where there is a hook or
    a profiler.

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
            # What traces a program need not stop to ask for a profiler of the traced one.
            or (not is_dynamo_compiling() and torch._C._autograd._profiler_enabled())
        )
        # A step that calls the one of its base is one step.
        if asked and not self._told:
            self._told = True
            try:
                return whole(self, *args, **kwargs)
            finally:
                self._told = False
        return step(self, *args, **kwargs)

    wrapper.hooked = True  # type: ignore[attr-defined]
    return wrapper
