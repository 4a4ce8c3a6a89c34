"""Derivatives of NumPy losses, by the autograd package."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._typing import Array
from ..trees import Structure
from .losses import (
    Loss,
    by_hand,
    descent,
    known_scalar,
    no_scalar,
    remember_scalar,
    require_all,
    without_none,
)


def by_autograd(loss: Any, of_leaves: Loss, leaves: list[Array], structure: Structure) -> Any:
    """Return value and gradients of a loss of NumPy arrays."""
    first: Any = None
    if not known_scalar(loss):
        # Called without tracing first: hand-written gradients need not support autograd's arrays.
        first = of_leaves(leaves)
        if isinstance(first, tuple):
            return by_hand(first, structure)
    try:
        import autograd
    except ModuleNotFoundError:
        raise TypeError(
            "differentiating a NumPy loss needs the autograd package (pip install autograd), or "
            "let the loss return (value, gradients)"
        ) from None
    places = [i for i, x in enumerate(leaves) if x is not None]

    def of_present(xs: Sequence[Array]) -> Any:
        given = dict(zip(places, xs, strict=True))
        return of_leaves([given.get(i) for i in range(len(leaves))])

    with warnings.catch_warnings():
        # Raised as an error below, with the parameter's name.
        warnings.filterwarnings("ignore", "Output seems independent")
        present = without_none(leaves)
        try:
            value, found = autograd.value_and_grad(of_present)(present)
        except (AttributeError, TypeError):
            # A NumPy scalar has a dtype; autograd cannot trace through a conversion to anything
            # else.
            if known_scalar(loss) or hasattr(first, "dtype"):
                raise
            raise no_scalar(first) from None
        remember_scalar(loss)
        used = [True] * len(leaves)
        for place, g in zip(places, found, strict=True):
            used[place] = bool(np.any(g)) or _autograd_reaches(of_leaves, leaves, place)
    require_all(used, structure)
    rows = iter(found)
    return value, [None if x is None else descent(next(rows)) for x in leaves]


def _autograd_reaches(of_leaves: Loss, leaves: list[Array], place: int) -> bool:
    """Whether the loss depends on a parameter; if not, autograd returns zeros."""
    from autograd.core import VJPNode
    from autograd.tracer import trace

    def of_one(x: Array) -> Any:
        return of_leaves([*leaves[:place], x, *leaves[place + 1 :]])

    return trace(VJPNode.new_root(), of_one, leaves[place])[1] is not None
