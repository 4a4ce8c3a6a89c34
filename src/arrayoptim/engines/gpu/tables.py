"""The tables that kernels read: sizes, chunks, addresses and totals."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..._typing import Array
from ...arrays.backend import COMPLEX
from ...arrays.libraries import backend_of
from ...numerics.sums import BLOCK
from .arrays import Library, dense
from .device import Device, Table

__all__ = ["Numbers", "Totals", "addresses", "chunks", "element_count", "same_order"]

Numbers = np.ndarray[Any, Any]


def element_count(array: Array) -> int:
    """Return the number of reals in an array: a complex number is two."""
    parts = 2 if backend_of(array).dtype(array) in COMPLEX else 1
    return parts * int(prod(array.shape))


def chunks(sizes: Sequence[int], length: int) -> Numbers:
    """Cut tensors into chunks.

    Parameters
    ----------
    sizes : sequence of int
        Number of elements of each tensor.
    length : int
        Largest number of elements of a chunk.

    Returns
    -------
    numpy.ndarray
        For each chunk the index of its tensor, and its own index within the tensor.
    """
    counts = -(-np.asarray(sizes, np.int64) // length)
    tensor = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(tensor)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([tensor, within], axis=1).astype(np.int32)


def same_order(library: Library, array: Array, like: Array) -> bool:
    """Whether an array is dense, with the shape and memory order of another array."""
    steps, wanted = library.strides(array), library.strides(like)
    shape = tuple(array.shape)
    if shape != tuple(like.shape):
        return False
    # Strides of empty arrays mean nothing, and differ between torch and NumPy.
    same = all(a == b for n, a, b in zip(shape, steps, wanted, strict=True) if n > 1)
    return prod(shape) == 0 or (same and dense(shape, steps))


def addresses(library: Library, arrays: Sequence[Array | None]) -> Numbers:
    """Return the address of each array; 0 for None."""
    found = [0 if array is None else library.address(array) for array in arrays]
    return np.array(found, np.int64)


class Totals:
    """Tables of a pass that sums tensors by blocks, and the memory for its sums.

    Parameters
    ----------
    device : Device
        The device of the tables.
    sizes : numpy.ndarray
        Number of elements of each tensor.
    count : int
        The number of sums taken at once.

    Attributes
    ----------
    blocks : int
        Number of blocks.
    inputs : tuple of int
        Addresses of the tables of blocks, of sizes, and of the first block of each tensor.
    sums : Table
        The sums of all tensors, one row per sum.
    outputs : tuple of int
        Addresses of the sums of blocks, of the sums of tensors, and of a counter of blocks.
    """

    def __init__(self, device: Device, sizes: Numbers, count: int) -> None:
        cut = chunks(sizes.tolist(), BLOCK)
        self.blocks = len(cut)
        first = np.searchsorted(cut[:, 0], np.arange(len(sizes) + 1)).astype(np.int64)
        self._in = [device.table(each) for each in (cut, sizes, first)]
        self.inputs = tuple(each.address for each in self._in)
        self._partial = device.table(np.zeros(count * max(self.blocks, 1)))
        self.sums: Table = device.table(np.zeros(count * len(sizes)))
        self._arrived = device.table(np.zeros(1, np.int32))
        self.outputs = self._partial.address, self.sums.address, self._arrived.address
