"""Kernels that read addresses from the objects of NumPy and torch.

A reader goes through a tuple of objects and writes the address of each one's elements
into a column of a pointer table. It stops at the first that is not exactly as expected,
and says where; the caller asks that one through Python.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

import numpy as np

from .native import Kernel, kernel
from .source import Program

_COMMON = "next same objects count none ranks firsts lengths target step versus other"
_NUMPY_CELLS = f"{_COMMON} kind dtype flags"
_TORCH_CELLS = f"{_COMMON} kinds dtype strides call room"

_WALK = """
def kernel(job, leader):
{loads}
    while next < count:
        array = peek(objects, next)
        if array == none:
            found = 0
        else:
            rank = peek(ranks, next)
            wanted = lengths + 8 * peek(firsts, next)
{look}
            if not good:
                break
        poke(target + step * next, 0, found)
        same += found == peek(versus + other * next, 0)
        next += 1
    poke(job, 0, next)
    poke(job, 1, same)
"""

# The fields of PyArrayObject: type, data, number of dimensions, shape, dtype, flags.
_NUMPY = """
good = peek(array, 1) == kind
if good:
    good = peek(array, 7) == dtype and peek_int32(array, 6) == rank
    needed = peek(flags, next)
    good = good and peek_int32(array, 16) & needed == needed
if good:
    shape = peek(array, 4)
    for k in range(rank):
        good = good and peek(shape, k) == peek(wanted, k)
    found = peek(array, 2)
"""

# DLTensor: data, device type and number, dimensions and dtype, shape, strides, offset. It does
# not tell a lazily negated tensor; one without gaps, out of a complex tensor, has one element.
_TORCH = """
good = peek(array, 1) == peek(kinds, 0) or peek(array, 1) == peek(kinds, 1)
good = good and call2(call, array, room) == 0
if good:
    good = peek_int32(room, 2) == 1 and peek_int32(room, 4) == rank
    good = good and peek_int32(room, 5) == dtype
if good:
    shape = peek(room, 3)
    order = peek(room, 4)
    needed = strides + 8 * peek(firsts, next)
    single = True
    for k in range(rank):
        length = peek(shape, k)
        single = single and length == 1
        good = good and length == peek(wanted, k)
        good = good and (length == 1 or peek(order, k) == peek(needed, k))
    good = good and not single
    found = peek(room, 0) + peek(room, 5)
"""


@cache
def numpy_kernel() -> Kernel | None:
    """Give the kernel that reads NumPy arrays.

    Returns
    -------
    callable or None
        The kernel; None where arrays are not laid out as it expects.
    """
    return _kernel(_NUMPY, _NUMPY_CELLS) if _arrays_as_expected() else None


@cache
def torch_kernel() -> Kernel | None:
    """Give the kernel that reads torch tensors through DLPack's exchange table.

    Returns
    -------
    callable or None
        The kernel; None where torch has no such table.
    """
    return _kernel(_TORCH, _TORCH_CELLS) if _objects_as_expected() and torch_call() else None


def _kernel(look: str, cells: str) -> Kernel:
    loads = "\n".join(f"    {name} = peek(job, {k})" for k, name in enumerate(cells.split()))
    body = "\n".join(f"            {line}" for line in look.strip().splitlines())
    source = _WALK.format(loads=loads, look=body)
    return kernel(Program(source, (), (), "float64"), locked=True)


def _objects_as_expected() -> bool:
    """Whether a tuple's items can be read from its address; not without a global lock."""
    header = (object.__basicsize__, ctypes.sizeof(ctypes.c_void_p), tuple.__itemsize__)
    if sys.implementation.name != "cpython" or header != (16, 8, 8):
        return False
    items = (object(), object(), None)
    found = (ctypes.c_int64 * 3).from_address(id(items) + tuple.__basicsize__)
    kind = (ctypes.c_int64 * 2).from_address(id(items[0]))[1]
    return bool(list(found) == [id(item) for item in items] and kind == id(object))


def _arrays_as_expected() -> bool:
    if not _objects_as_expected() or np.ndarray.__basicsize__ < 72:
        return False
    return all(
        _is_known(array)
        for array in (np.zeros((3, 5), np.float32), np.zeros((2, 1, 4), order="F"), np.zeros(()))
    )


def _is_known(array: np.ndarray[Any, Any]) -> bool:
    words = (ctypes.c_int64 * 9).from_address(id(array))
    halves = (ctypes.c_int32 * 18).from_address(id(array))
    fixed = (words[1], words[2], halves[6], words[7], halves[16])
    known = (id(np.ndarray), array.ctypes.data, array.ndim, id(array.dtype), array.flags.num)
    if fixed != known:
        return False
    return bool(array.shape == tuple((ctypes.c_int64 * array.ndim).from_address(words[4])))


@cache
def torch_call() -> int:
    """Give the address of torch's function from a tensor to a ``DLTensor``.

    Returns
    -------
    int
        The address; 0 where there is none of DLPack's first major version.
    """
    torch: Any = sys.modules["torch"]
    capsule = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    if type(capsule).__name__ != "PyCapsule":
        return 0
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    table = get(capsule, b"dlpack_exchange_api")
    if (ctypes.c_uint32 * 2).from_address(table)[0] != 1:
        return 0
    return int((ctypes.c_uint64 * 7).from_address(table)[5])
