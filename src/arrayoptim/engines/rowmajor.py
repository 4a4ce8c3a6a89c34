"""Rows in memory: whether they are side by side, and copies that are."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from .._typing import Array
from ..arrays.libraries import backend_of


def row_major(shape: Sequence[int], steps: Sequence[int]) -> bool:
    """Whether elements are side by side, those of the last axis first.

    Parameters
    ----------
    shape : sequence of int
        A shape.
    steps : sequence of int
        The distance of neighbours along each axis, in elements.
    """
    if not prod(shape):
        return True
    unit = 1
    for step, length in zip(reversed(steps), reversed(shape), strict=True):
        if length > 1 and step != unit:
            return False
        unit *= length
    return True


def by_rows(x: Array, dtype: str) -> Array:
    """Return a copy in some dtype whose elements are side by side, those of a row first."""
    backend, shape = backend_of(x), tuple(x.shape)
    with backend.guard(x):
        copy = backend.xp.reshape(backend.zeros(x, dtype, (prod(shape),)), shape)
        backend.store(copy, x)
    return copy
