"""Kernels that read addresses from NumPy and torch objects.

One traverses a tuple of objects and writes the address of each one's elements into a column of a
pointer table. It stops at the first that is not exactly as expected, and returns its index; the
caller checks that one in Python. Another checks all arrays of a step.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .calls import CALLS, entry
from .pool import ROUSE
from .source import Program

WALK = (
    *("next", "same", "calls", "count", "none", "ranks", "firsts", "lengths"),
    *("target", "step", "versus", "other", "dtype", "flags"),
)
"""Cells of a job that fills a column, followed by those of a library."""

_NUMPY_CELLS, _TORCH_CELLS = ("kind",), ("kinds", "strides", "call", "room")

_WALK = """
def kernel(self, arguments):
    {entry}
{loads}
    objects = peek(arguments, 0) + 24
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
    poke(record, 0, next)
    poke(record, 1, same)
    return ask1(peek(calls, {long}), next)
"""

_LOOK = """
def kernel(self, arguments):
    {entry}
{loads}
    if pool:
{rouse}
    left = peek(arguments, 0) + 24
    right = peek(arguments, 1) + 24
    answer = 0
    for next in range(count):
        place = peek(index, next)
        rank = peek(ranks, next)
        wanted = lengths + 8 * peek(firsts, next)
        dtype = param_dtype
        flags = param_flags
        array = peek(left, place)
        found = 0
{param}
        if not good or found != peek(pointers + stride * next, 0):
            answer = 1
            break
        dtype = grad_dtype
        flags = grad_flags
        array = peek(right, place)
        found = 0
        if array != none:
{grad}
            if not good:
                answer = 2
                break
            end = found + item * peek(sizes, next)
            before = peek(hints, next)
            if not (
                (before == 0 or peek(starts, before - 1) < end)
                and (before == stretches or peek(starts, before) >= end)
            ):
                before = 0
                beyond = stretches
                while before < beyond:
                    middle = (before + beyond) // 2
                    if peek(starts, middle) < end:
                        before = middle + 1
                    else:
                        beyond = middle
                poke(hints, next, before)
            if peek(furthest, before) > found:
                answer = 2
                break
        poke(gradients, next, found)
    return ask1(peek(calls, {long}), answer)
"""

LOOK = (
    *("calls", "pool", "count", "none", "index", "ranks", "firsts", "lengths"),
    *("pointers", "stride", "gradients", "sizes", "item"),
    *("starts", "furthest", "stretches", "hints"),
    *("param_dtype", "param_flags", "grad_dtype", "grad_flags"),
)
"""Cells of a job that checks all arrays of a step, followed by those of a library.

The answer is 0 if all are as expected, 1 if a parameter is not, 2 if a gradient is not or overlaps
memory that the step writes.
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
# not expose lazy negation; a contiguous negated view of a complex tensor has one element.
_TORCH = """
good = peek(array, 1) == peek(kinds, 0) or peek(array, 1) == peek(kinds, 1)
if good:
    good = call2(call, array, room) == 0
    if not good:
        ask0(peek(calls, CLEAR))
if good:
    good = {place} and peek_int32(room, 4) == rank
    good = good and peek_int32(room, 5) == {dtype}
if good:
    shape = peek(room, 3)
    order = peek(room, 4)
    needed = strides + 8 * peek(firsts, next)
    single = True
    for k in range(rank):
        length = peek(shape, k)
        single = single and length == 1
        good = good and length == peek(wanted, k) and {stride}
    good = good and not single
    found = peek(room, 0) + peek(room, 5)
"""
_STRIDE = "peek(order, k) == peek(needed, k)"


def torch_look(place: str, dtype: str, stride: str = _STRIDE) -> str:
    """Return the lines that check a torch tensor, for `walk_program`.

    Parameters
    ----------
    place, dtype, stride : str
        Conditions, and the operands of one: that the tensor is on the device, its expected dtype,
        and that its stride along an axis is right.
    """
    return _TORCH.format(place=place, dtype=dtype, stride=stride)


@dataclass(frozen=True)
class Readers:
    """The programs that read arrays of one library, each a function of Python; see `calls`.

    Attributes
    ----------
    walk : Program
        A function of a tuple that fills a column; the answer is the index where it stopped.
    look : Program
        A function of all parameters and all gradients of a step, as tuples; see `LOOK`.
    """

    walk: Program
    look: Program


@cache
def numpy_readers() -> Readers | None:
    """Return the programs that read NumPy arrays.

    Returns
    -------
    Readers or None
        The programs; None if array objects do not have the expected layout.
    """
    return _readers(_NUMPY, _NUMPY_CELLS) if _arrays_as_expected() else None


@cache
def torch_readers() -> Readers | None:
    """Return the programs that read torch tensors through DLPack's exchange table.

    Returns
    -------
    Readers or None
        The programs; None if torch has no such table.
    """
    if not objects_as_expected() or not torch_call():
        return None
    look = torch_look("peek_int32(room, 2) == 1", "dtype", f"(length == 1 or {_STRIDE})")
    return _readers(look, _TORCH_CELLS)


def walk_program(look: str, cells: tuple[str, ...]) -> Program:
    """Write a function of a tuple that fills a column with the addresses of its items.

    Parameters
    ----------
    look : str
        Lines that set ``good``, whether ``array``, item ``next``, is as expected, and if so
        ``found``, the address of its elements. ``rank`` and ``wanted`` are its expected shape.
    cells : tuple of str
        Names of the cells of its job that these lines use besides those of `WALK`.

    Returns
    -------
    Program
        The function; its answer is the index where it stopped.
    """
    look = _indented(look.replace("CLEAR", str(CALLS["clear"])), 3)
    known = {"entry": entry(), "long": CALLS["long"]}
    return _program(_WALK.format(loads=_loads(WALK + cells), look=look, **known))


def _readers(look: str, cells: tuple[str, ...]) -> Readers:
    walk, look = walk_program(look, cells), look.replace("CLEAR", str(CALLS["clear"]))
    known: dict[str, Any] = {"entry": entry(), "long": CALLS["long"]}
    known |= {"rouse": _indented(ROUSE, 2)}
    known |= {"param": _indented(look, 2), "grad": _indented(look, 3)}
    return Readers(walk, _program(_LOOK.format(loads=_loads(LOOK + cells), **known)))


def _program(source: str) -> Program:
    return Program(source, (), (), "float64", answers=True)


def _loads(cells: tuple[str, ...]) -> str:
    return "\n".join(f"    {name} = peek(record, {k})" for k, name in enumerate(cells))


def _indented(lines: str, depth: int) -> str:
    return "\n".join(f"{'    ' * depth}{line}" for line in lines.strip().splitlines())


def objects_as_expected() -> bool:
    """Whether a tuple's items can be read from its address; needs the GIL."""
    header = (object.__basicsize__, ctypes.sizeof(ctypes.c_void_p), tuple.__itemsize__)
    if sys.implementation.name != "cpython" or header != (16, 8, 8):
        return False
    items = (object(), object(), None)
    found = (ctypes.c_int64 * 3).from_address(id(items) + tuple.__basicsize__)
    kind = (ctypes.c_int64 * 2).from_address(id(items[0]))[1]
    return bool(list(found) == [id(item) for item in items] and kind == id(object))


def _arrays_as_expected() -> bool:
    if not objects_as_expected() or np.ndarray.__basicsize__ < 72:
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
    """Return the address of torch's function from a tensor to a ``DLTensor``.

    Returns
    -------
    int
        The address; 0 if there is none for DLPack's first major version.
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
