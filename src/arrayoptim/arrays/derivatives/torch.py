"""Derivatives by torch."""

from __future__ import annotations

from typing import Any

from ..._typing import Array
from ..trees import Structure, named
from .losses import (
    Loss,
    by_hand,
    no_scalar,
    require_all,
    without_none,
)


def torch_gradients(loss: Any, leaves: list[Array], structure: Structure) -> list[Array]:
    """Return the gradients of a torch scalar."""
    if not hasattr(loss, "requires_grad"):
        raise TypeError(
            f"loss: found {type(loss).__qualname__}, wanted a torch scalar, or a function of the "
            "parameters that returns a scalar or the pair (value, gradients)"
        )
    if not loss.requires_grad:
        raise ValueError("loss does not depend on any tensor that requires a gradient")
    import torch

    for path, p in zip(structure.paths, leaves, strict=True):
        if p is not None and not getattr(p, "requires_grad", False):
            raise ValueError(f"{named(path)} does not require a gradient")
    found = iter(torch.autograd.grad(loss, without_none(leaves), allow_unused=True))
    gradients = [None if p is None else next(found) for p in leaves]
    require_all(
        [p is None or g is not None for p, g in zip(leaves, gradients, strict=True)], structure
    )
    return gradients


def by_torch(loss: Any, of_leaves: Loss, leaves: list[Array], structure: Structure) -> Any:
    """Return value and gradients of a loss of torch tensors."""
    import torch

    tracked = [
        x if x is None or x.requires_grad else x.detach().clone().requires_grad_() for x in leaves
    ]
    with torch.enable_grad():
        value = of_leaves(tracked)
    if isinstance(value, tuple):
        return by_hand(value, structure)
    if not torch.is_tensor(value):
        raise no_scalar(value)
    return value.detach(), torch_gradients(value, tracked, structure)
