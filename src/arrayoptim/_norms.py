"""The sum of squares of an array, in an order of additions that every engine can keep.

A sum of floating-point numbers depends on the order in which they are added. The order
here is fixed and parallel in three ways: over blocks, over the lanes of a vector register
and over threads. A compiled loop on any number of threads gives the very bits of the
NumPy expressions below.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["BLOCK", "LANES", "nonfinite", "sum_of_squares"]

BLOCK = 32768
"""Elements that are summed together; the sums of blocks are added one after another."""

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
    flat = array.ravel(order="K")
    total = 0.0
    with np.errstate(over="ignore"):
        for start in range(0, flat.size, BLOCK):
            total += _block(flat[start : start + BLOCK])
    return total


def _block(x: np.ndarray[Any, Any]) -> float:
    squares = np.square(x.astype(np.float64))
    missing = -squares.size % LANES
    if missing:
        squares = np.concatenate([squares, np.zeros(missing)])
    lanes = np.add.reduce(squares.reshape(-1, LANES), axis=0)
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
