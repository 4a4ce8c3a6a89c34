"""Row-major contiguity: a test for it, and copies with it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from .._typing import Array
from ..arrays.libraries import backend_of


def row_major(shape: Sequence[int], steps: Sequence[int]) -> bool:
    """Whether elements are contiguous in row-major order.

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
    """Return a row-major contiguous copy with a dtype."""
    backend, shape = backend_of(x), tuple(x.shape)
    with backend.guard(x):
        copy = backend.xp.reshape(backend.zeros(x, dtype, (prod(shape),)), shape)
        backend.store(copy, x)
    return copy
