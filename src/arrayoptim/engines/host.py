"""Arrays of a GPU, kept in host memory."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..arrays.backend import itemsize
from ..arrays.libraries import backend_of

if TYPE_CHECKING:
    from .gpu.arrays import Library

__all__ = ["back", "gpu_library", "hosted", "on_gpu"]


@cache
def _gpu() -> Any:
    """Return the GPU engine's module for arrays; None where that engine is left out."""
    with suppress(ModuleNotFoundError):
        from .gpu import arrays

        return arrays
    return None


def gpu_library(array: Array) -> Library | None:
    """Return the library of an array on a GPU; None for any other array."""
    known = _gpu()
    found: Library | None = None if known is None else known.library_of(array)
    return found


def on_gpu(array: Array) -> bool:
    """Whether an array is on a GPU that kernels are made for."""
    return gpu_library(array) is not None


def hosted(array: Array) -> Array:
    """Return an array on a GPU as one in host memory, in the same order.

    Parameters
    ----------
    array : array
        Any array.

    Returns
    -------
    array
        A NumPy array for a CuPy array, a tensor of the CPU for a torch tensor; any other array as
        it is.
    """
    library = gpu_library(array)
    if library is None:
        return array
    if library.refusal(array) is not None:
        # The error is raised where the whole parameter is known.
        return library.fetched(array)
    array = (
        array
        if _gpu().dense(array.shape, library.strides(array))
        else backend_of(array).copy(array)
    )
    number, count, dtype = library.number(array), prod(array.shape), backend_of(array).dtype(array)
    # At least one element, as no library makes an array without memory.
    room = np.zeros(max(count, 1) * itemsize(dtype), np.uint8)
    device = library.device(number)
    flat = library.on_host(room, dtype, count)
    with device.active(library.stream(number)):
        copies = device.copies()
        copies.begin()
        size = count * itemsize(dtype)
        copies.fetch([(room.ctypes.data, library.address(array), size)]).synchronize()
    return library.shaped(flat, array)


def back(array: Array, like: Array) -> Array:
    """Undo `hosted`.

    Parameters
    ----------
    array : array
        An array that `hosted` gave, or one with its dtype.
    like : array
        What it was given.

    Returns
    -------
    array
        A new array where that one lies; the first itself if that lies on no GPU.
    """
    if gpu_library(like) is None or gpu_library(array) is not None:
        return array
    return backend_of(like).from_host(backend_of(array).to_host(array), like)
