"""Tables that kernels traverse: the elements of tensors, split into chunks and tasks."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

IntTable = np.ndarray[Any, np.dtype[np.int64]]

CHUNK, TASK = 8192, 16384
"""Elements of a chunk if nothing is summed, and minimum that a thread claims at a time; small
tensors share a task."""


@dataclass(frozen=True)
class Chunks:
    """The chunks and tasks of tensors.

    Attributes
    ----------
    table : numpy.ndarray
        One row per chunk: tensor, first element and end.
    bounds : numpy.ndarray
        The first chunk of each task, and the number of chunks.
    """

    table: IntTable
    bounds: IntTable

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return len(self.bounds) - 1


def cut(sizes: Sequence[int] | IntTable, length: int) -> Chunks:
    """Split tensors into chunks, and group chunks into tasks.

    Parameters
    ----------
    sizes : sequence of int
        Number of elements of each tensor.
    length : int
        Number of elements of a chunk; if they are summed, of a block of `numerics.sums`.

    Returns
    -------
    Chunks
        The tables.
    """
    lengths = np.asarray(sizes, np.int64)
    counts = -(-lengths // length)
    tensor = np.repeat(np.arange(len(lengths)), counts)
    within = np.arange(len(tensor)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = within * length
    stop = np.minimum(start + length, lengths[tensor])
    return gathered([tensor, start, stop], stop - start)


def gathered(columns: Sequence[Any], sizes: Any) -> Chunks:
    """Group chunks into tasks.

    Parameters
    ----------
    columns : sequence of numpy.ndarray
        The columns of their table.
    sizes : numpy.ndarray
        Number of elements of each.

    Returns
    -------
    Chunks
        The tables.
    """
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    inner = np.searchsorted(ends, np.arange(TASK, total, TASK)) + 1
    bounds = np.concatenate([[0], inner, [len(ends)]])
    # NumPy's `unique` imports masked arrays, which takes longer than a first step.
    bounds = bounds[np.diff(bounds, prepend=-1) > 0]
    table = np.stack(columns, axis=1).astype(np.int64)
    return Chunks(np.ascontiguousarray(table), bounds.astype(np.int64))


def address(table: np.ndarray[Any, Any]) -> int:
    """Return the address of a table.

    Parameters
    ----------
    table : numpy.ndarray
        The table.

    Returns
    -------
    int
        The address of its first element.
    """
    return int(table.ctypes.data)


def cells(*values: int) -> Any:
    """Return the cells of a job as a ctypes array.

    Parameters
    ----------
    *values : int
        The cells.

    Returns
    -------
    ctypes array
        The array, whose address is ten times as fast to read as NumPy's.
    """
    return (ctypes.c_int64 * len(values))(*values)
