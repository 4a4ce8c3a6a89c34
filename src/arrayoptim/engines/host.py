"""Copies of GPU arrays in host memory."""

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
    """Return the GPU engine's module for arrays; None if that engine is missing."""
    with suppress(ModuleNotFoundError):
        from .gpu import arrays

        return arrays
    return None


def gpu_library(array: Array) -> Library | None:
    """Return the library of a GPU array; None for any other array."""
    known = _gpu()
    found: Library | None = None if known is None else known.library_of(array)
    return found


def on_gpu(array: Array) -> bool:
    """Whether an array is on a GPU supported by kernels."""
    return gpu_library(array) is not None


def hosted(array: Array) -> Array:
    """Return a GPU array as one in host memory, in the same memory order.

    Parameters
    ----------
    array : array
        Any array.

    Returns
    -------
    array
        A NumPy array for a CuPy array, a CPU tensor for a torch tensor; any other array is returned
        itself.
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
    # At least one element, as empty arrays have no memory to address.
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
        An array from `hosted`, or one with its dtype.
    like : array
        The original array.

    Returns
    -------
    array
        A new array on the device of `like`; `array` itself if that is not on a GPU.
    """
    if gpu_library(like) is None or gpu_library(array) is not None:
        return array
    return backend_of(like).from_host(backend_of(array).to_host(array), like)
