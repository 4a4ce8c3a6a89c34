"""The units of adaptive clipping, and how the elements of each lie in memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

__all__ = ["SMALLEST", "memory_order", "parts_of"]

SMALLEST = 1e-3
"""Lower bound of a unit's norm, so that a unit that starts at zero can move."""


def memory_order(steps: Sequence[int]) -> tuple[int, ...]:
    """Return the axes of an array in memory order.

    Parameters
    ----------
    steps : sequence of int
        The distance of neighbours along each axis.
    """
    return tuple(sorted(range(len(steps)), key=lambda k: -abs(steps[k])))


def parts_of(shape: Sequence[int], order: Sequence[int], units: str) -> tuple[int, int, int]:
    """Return the shape of an array in memory, by units.

    Parameters
    ----------
    shape : sequence of int
        The array's shape.
    order : sequence of int
        Its axes in memory order.
    units : {"last", "first", "tensor"}
        Which axis counts the units; with ``"tensor"``, and in an array of fewer than two axes,
        there is a single unit.

    Returns
    -------
    tuple of int
        The number of elements before the axis of the units, of units, and after it.
    """
    axis = 0 if units == "first" else len(shape) - 1
    if units == "tensor" or len(shape) < 2 or shape[axis] == 1:
        return 1, 1, prod(shape)
    at = order.index(axis)
    outer, inner = (prod(shape[k] for k in some) for some in (order[:at], order[at + 1 :]))
    return outer, shape[axis], inner
