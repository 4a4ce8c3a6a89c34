"""Arrays of a GPU in host memory."""

from __future__ import annotations

from math import prod

import numpy as np

from ..._typing import Array
from ...arrays.libraries import backend_of
from ..cpu.addresses import itemsize

__all__ = ["back", "hosted"]


def hosted(array: Array) -> Array:
    """Give an array on a GPU as one in host memory, in the same order.

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
    # What knows of GPUs is imported only where there may be one.
    from ..gpu.arrays import dense, library_of

    library = library_of(array)
    if library is None:
        return array
    array = array if dense(array.shape, library.strides(array)) else backend_of(array).copy(array)
    number, count, dtype = library.number(array), prod(array.shape), backend_of(array).dtype(array)
    # Room for one element at least, as no library makes an array of no memory.
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
        An array that `hosted` gave, or one with its data type.
    like : array
        What it was given.

    Returns
    -------
    array
        A new array where that one lies; the first itself if that lies on no GPU.
    """
    from ..gpu.arrays import library_of

    if library_of(like) is None or library_of(array) is not None:
        return array
    return backend_of(like).from_host(backend_of(array).to_host(array), like)
