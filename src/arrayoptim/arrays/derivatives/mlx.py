"""Derivatives by MLX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..._typing import Array
from ..trees import Structure
from .losses import (
    Loss,
    by_hand,
    known_scalar,
    no_scalar,
    remember_scalar,
    without_none,
)


def by_mlx(loss: Any, of_leaves: Loss, leaves: list[Array], structure: Structure) -> Any:
    """Return value and gradients of a loss of MLX arrays."""
    import mlx.core as mx

    places = [i for i, x in enumerate(leaves) if x is not None]

    def of_present(xs: Sequence[Array]) -> Any:
        given = dict(zip(places, xs, strict=True))
        return of_leaves([given.get(i) for i in range(len(leaves))])

    if not known_scalar(loss):
        first = of_leaves(leaves)
        if isinstance(first, tuple):
            return by_hand(first, structure)
        if not isinstance(first, mx.array) or first.ndim:
            raise no_scalar(first)
        remember_scalar(loss)
    value, found = mx.value_and_grad(of_present)(without_none(leaves))
    rows = iter(found)
    return value, [None if x is None else next(rows) for x in leaves]
