"""The sum of an array, or of its squares, in an order of additions that every engine can follow.

A sum of floating-point numbers depends on the order in which they are added. The order
here is fixed and parallel in three ways: over blocks, over the lanes of a vector register
and over threads. A compiled loop on any number of threads gives the very bits of the
NumPy expressions below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["BLOCK", "LANES", "nonfinite", "sum_of_squares", "sum_of_values"]

BLOCK = 32768
"""Elements of a block; the sums of blocks are added one after another."""

LANES = 16
"""Partial sums of a block: lane k adds up the elements k, k + 16, k + 32, ... in order."""


def sum_of_squares(array: np.ndarray[Any, Any]) -> float:
    """Return the sum of the squares of all elements.

    Parameters
    ----------
    array : numpy.ndarray
        Real array of any shape and precision, taken in the order of its memory.

    Returns
    -------
    float
        The sum in double precision. Finite elements of up to 32 bits cannot overflow it.
    """
    return _sum(array, np.square)


def sum_of_values(array: np.ndarray[Any, Any]) -> float:
    """Return the sum of all elements.

    Parameters
    ----------
    array : numpy.ndarray
        Real array of any shape and precision, taken in the order of its memory.

    Returns
    -------
    float
        The sum in double precision.
    """
    return _sum(array, np.positive)


def _sum(array: np.ndarray[Any, Any], of: Callable[..., Any]) -> float:
    flat = array.ravel(order="K")
    total = 0.0
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, BLOCK):
            total += _block(of(flat[start : start + BLOCK].astype(np.float64)))
    return total


def _block(values: np.ndarray[Any, Any]) -> float:
    missing = -values.size % LANES
    if missing:
        values = np.concatenate([values, np.zeros(missing)])
    lanes = np.add.reduce(values.reshape(-1, LANES), axis=0)
    while lanes.size > 1:
        half = lanes.size // 2
        lanes = lanes[:half] + lanes[half:]
    return float(lanes[0])


def nonfinite(array: np.ndarray[Any, Any]) -> int:
    """Return how many elements are infinite or NaN.

    Parameters
    ----------
    array : numpy.ndarray
        Real array of any shape and precision.

    Returns
    -------
    int
        The count.
    """
    return int(array.size - np.count_nonzero(np.isfinite(array)))
