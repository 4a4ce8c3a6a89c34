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

__all__ = [
    "BLOCK",
    "LANES",
    "TILE",
    "WIDTH",
    "nonfinite",
    "sum_of_squares",
    "sum_of_values",
    "sums_along",
    "tile_height",
]

BLOCK = 32768
"""Elements of a block; the sums of blocks are added one after another."""

LANES = 16
"""Partial sums of a block: lane k adds up the elements k, k + 16, k + 32, ... in order."""

WIDTH = 2048
"""Columns of a tile of a matrix: their sums, in double precision, stay in the nearest cache."""

TILE = 65536
"""Elements of a tile; the sums of tiles, along rows or columns, are added one after another."""


def tile_height(columns: int) -> int:
    """Return the number of rows of a tile of a matrix with that many columns."""
    return max(1, TILE // max(1, min(columns, WIDTH)))


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


def sums_along(array: np.ndarray[Any, Any], axes: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return the sums of a matrix along its rows, its columns or both.

    Parameters
    ----------
    array : numpy.ndarray
        Real matrices ``[..., rows, columns]``, or for sums along the last axis ``[..., columns]``.
    axes : tuple of int
        ``(-1,)``, ``(-2,)`` or ``(-2, -1)``.

    Returns
    -------
    numpy.ndarray
        The sums in double precision; those axes are left out.
    """
    with np.errstate(all="ignore"):
        if axes == (-2,):
            return _of_columns(array)
        rows = _of_rows(array)
        return rows if axes == (-1,) else 0.0 + np.cumsum(rows, axis=-1)[..., -1]


def _of_rows(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    total = np.zeros(array.shape[:-1])
    for left in range(0, array.shape[-1], WIDTH):
        values = array[..., left : left + WIDTH].astype(np.float64)
        missing = -values.shape[-1] % LANES
        if missing:
            values = np.concatenate([values, np.zeros((*values.shape[:-1], missing))], axis=-1)
        # Along an axis that is not the last one, NumPy adds one after another.
        lanes = np.add.reduce(values.reshape(*values.shape[:-1], -1, LANES), axis=-2)
        while lanes.shape[-1] > 1:
            half = lanes.shape[-1] // 2
            lanes = lanes[..., :half] + lanes[..., half:]
        total = total + lanes[..., 0]
    return total


def _of_columns(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    total = np.zeros((*array.shape[:-2], array.shape[-1]))
    height = tile_height(array.shape[-1])
    for top in range(0, array.shape[-2], height):
        values = array[..., top : top + height, :].astype(np.float64)
        # The sum of a single column it would take pairwise.
        alone = array.shape[-1] == 1
        part = np.cumsum(values, axis=-2)[..., -1, :] if alone else np.add.reduce(values, axis=-2)
        total = total + part
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
