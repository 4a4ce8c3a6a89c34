"""The optimizers as subclasses of ``torch.optim.Optimizer``.

The classes of ``torch.optim`` are here under their own names, with their arguments, defaults and
formulas; so is every other registered class, with the same naming scheme. They are subclasses of
``torch.optim.Optimizer``, so torch's schedulers, scalers, wrappers and checkpoints treat them as
torch's own. `LBFGS`, which evaluates the loss itself, is included. `wrap` turns an instance into
such an optimizer; `from_torch` and `to_torch` switch in the middle of training; `load_state` and
`export_state` do so for an optimizer in this library's own form.

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
    """Return the names of all optimizers that have a rule, torch's and ours.

    `LBFGS`, whose step takes a closure, is not included.
    """
    return sorted({*registry.names(), *(row.theirs for row in TABLE)})


def __getattr__(name: str) -> Any:
    """Return the class of a registered optimizer, made on first access."""
    if (found := class_named(name)) is not None:
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{spelled(name, 'torch')}")


def __dir__() -> list[str]:
    """Return all names, including those of the optimizers."""
    return sorted({*globals(), *names()})
