"""The optimizers as optimizers of torch.

The classes of ``torch.optim`` are here under their names, with their arguments, defaults and
formulas, and each other registered class in the same spelling: subclasses of
``torch.optim.Optimizer`` that torch's schedulers, scalers, wrappers and checkpoints take for
torch's own. `LBFGS`, which evaluates the loss itself, is here too. `wrap` makes such an optimizer
of an instance, `from_torch` and `to_torch` change over in the middle of a training; `load_state`
and `export_state` do so for an optimizer in this library's own form.

Examples
--------
>>> import torch
>>> import arrayoptim as ao
>>> model = torch.nn.Linear(3, 1)
>>> optimizer = ao.torch.Adam(model.parameters(), lr=0.01)
>>> scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10)
>>> model(torch.ones(2, 3)).square().mean().backward()
>>> optimizer.step()
>>> scheduler.step()
>>> sorted(optimizer.state[model.weight])
['exp_avg', 'exp_avg_sq', 'step']
"""

from __future__ import annotations

from typing import Any

from ...config import registry
from ...config.other_libraries import spelled
from ...config.torch import TABLE
from .base import TorchOptimizer
from .classes import class_named, wrap
from .exchange import export_state, load_state
from .lbfgs import LBFGS
from .switching import from_torch, to_torch

__all__ = [
    "LBFGS",
    "TorchOptimizer",
    "export_state",
    "from_torch",
    "load_state",
    "names",
    "to_torch",
    "wrap",
]


def names() -> list[str]:
    """Return the names of all optimizers that step by a rule, torch's and ours.

    `LBFGS`, whose step takes a closure, is not among them.
    """
    return sorted({*registry.names(), *(row.theirs for row in TABLE)})


def __getattr__(name: str) -> Any:
    """Make the class of a registered optimizer when it is first asked for."""
    if (found := class_named(name)) is not None:
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{spelled(name, 'torch')}")


def __dir__() -> list[str]:
    """Return the optimizers too."""
    return sorted({*globals(), *names()})
