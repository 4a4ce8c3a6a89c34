"""The sum of an array, or of its squares, in an order of additions that every engine can follow.

A floating-point sum depends on the order of additions. The order here is fixed and parallel at
three levels: over blocks, over runs within a block, and over the lanes of a vector register. A
compiled loop on any number of threads returns the same bits as the NumPy expressions below; so
does a GPU, with a thread per lane and run of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = [
    "BLOCK",
    "LANES",
    "RUN",
    "TILE",
    "WIDTH",
    "nonfinite",
    "sum_of_squares",
    "sum_of_values",
    "sums_along",
    "sums_of_units",
    "tile_height",
]

BLOCK = 32768
"""Elements of a block; the sums of blocks are added sequentially."""

RUN = 2048
"""Elements of a run; the sums of a block's runs are added sequentially."""

LANES = 16
"""Partial sums of a run: lane k sums the elements k, k + 16, k + 32, ... in order."""

WIDTH = RUN
"""Columns of a tile of a matrix: their float64 sums stay in the L1 cache."""

TILE = 65536
"""Elements of a tile; the sums of tiles, along rows or columns, are added sequentially."""


def tile_height(columns: int) -> int:
    """Return the number of rows of a tile of a matrix with that many columns."""
    return max(1, TILE // max(1, min(columns, WIDTH)))


def sum_of_squares(array: np.ndarray[Any, Any]) -> float:
    """Return the sum of the squares of all elements.

    Parameters
    ----------
    array : numpy.ndarray
        Real array of any shape and precision, summed in memory order.

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
        Real array of any shape and precision, summed in memory order.

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
        The sums in double precision, without those axes.
    """
    with np.errstate(all="ignore"):
        if axes == (-2,):
            return _of_columns(array)
        rows = _of_rows(array)
        return rows if axes == (-1,) else 0.0 + np.cumsum(rows, axis=-1)[..., -1]


def sums_of_units(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the sums over the units of arrays.

    Those of a single unit are added like all elements of an array, those along the last axis like
    the columns of a matrix, and others like its rows, one after another.

    Parameters
    ----------
    array : numpy.ndarray of float64
        Shape ``(arrays, outer, units, inner, parts)``: the elements in memory order, each of one
        part, or of two if it is complex.

    Returns
    -------
    numpy.ndarray of float64
        Shape ``(arrays, units)``.
    """
    count, outer, units, inner, parts = array.shape
    if units == 1:
        return np.array([[_sum(row, np.positive)] for row in array])
    with np.errstate(all="ignore"):
        if inner == 1:
            whole = array[..., 0, 0]
            for k in range(1, parts):
                whole = whole + array[..., 0, k]
            return sums_along(whole, (-2,))
        rows = sums_along(array.reshape(count, outer, units, inner * parts), (-1,))
        total: np.ndarray[Any, Any] = np.add.reduce(rows, axis=-2)
        return total


def _of_rows(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    total = np.zeros(array.shape[:-1])
    for left in range(0, array.shape[-1], WIDTH):
        total = total + _of_runs(array[..., left : left + WIDTH].astype(np.float64))
    return total


def _of_runs(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the sums along the last axis, which is no longer than a run."""
    missing = -values.shape[-1] % LANES
    if missing:
        values = np.concatenate([values, np.zeros((*values.shape[:-1], missing))], axis=-1)
    # Along any axis but the last, NumPy adds sequentially.
    rows = values.reshape(*values.shape[:-1], values.shape[-1] // LANES, LANES)
    lanes = np.add.reduce(rows, axis=-2)
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    sums: np.ndarray[Any, Any] = lanes[..., 0]
    return sums


def _of_columns(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    total = np.zeros((*array.shape[:-2], array.shape[-1]))
    height = tile_height(array.shape[-1])
    for top in range(0, array.shape[-2], height):
        values = array[..., top : top + height, :].astype(np.float64)
        # NumPy would sum a single column pairwise.
        alone = array.shape[-1] == 1
        part = np.cumsum(values, axis=-2)[..., -1, :] if alone else np.add.reduce(values, axis=-2)
        total = total + part
    return total


def _block(values: np.ndarray[Any, Any]) -> float:
    whole, total = values.size // RUN * RUN, 0.0
    for part in _of_runs(values[:whole].reshape(-1, RUN)).tolist():
        total += part
    return total + float(_of_runs(values[whole:])) if whole < values.size else total


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
