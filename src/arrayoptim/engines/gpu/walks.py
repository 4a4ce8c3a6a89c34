"""Reading the addresses of all arrays of a step at once, in machine code that knows their layout.

In Python, querying an array's shape, strides, dtype, device and address takes some tenths of a
microsecond; for a thousand small arrays, that is more than the GPU's own work.
"""

from __future__ import annotations

import ctypes
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..._typing import Array

if TYPE_CHECKING:
    from ..cpu.source import Program

__all__ = ["CuPyWalk", "TorchWalk", "Walk", "walk_over"]

# The fields of CuPy's _ndarray_base: type, the vectors of shape and strides, dtype, memory;
# and those of its MemoryPointer: address, number of the device.
_CUPY = """
good = peek(array, 1) == kind and peek(array, 13) == peek(flags, next)
if good:
    shape = peek(array, 5)
    order = peek(array, 8)
    needed = strides + 8 * peek(firsts, next)
    good = peek(array, 6) - shape == 8 * rank
    if good:
        for k in range(rank):
            good = good and peek(shape, k) == peek(wanted, k)
            good = good and peek(order, k) == peek(needed, k)
    memory = peek(array, 14)
    good = good and peek_int32(memory, 8) == number
    found = peek(memory, 3)
"""


class Asking(Protocol):
    """A library that can query arrays one by one."""

    def facts(self, arrays: Sequence[Array | None]) -> list[Any] | None:
        """Return, for each array, what decides whether kernels can read it, address aside."""

    def places(self, arrays: Sequence[Array | None]) -> list[int]:
        """Return the address of each array; 0 for None."""


class Walk(ABC):
    """A walk through arrays that should equal some others in all but their addresses.

    Parameters
    ----------
    library : Asking
        The library of the arrays.
    arrays : sequence of array or None
        The arrays to compare with, all on one device.
    facts : list
        The facts of each array, see `Asking`.
    number : int
        The CUDA device index.

    Attributes
    ----------
    found : numpy.ndarray of int64
        The addresses of the arrays read last; 0 for None.
    moved : bool
        Whether one of these addresses differs from the time before.

    Raises
    ------
    LookupError
        If machine code cannot read these arrays.
    """

    def __init__(
        self, library: Asking, arrays: Sequence[Array | None], facts: list[Any], number: int
    ) -> None:
        from ..cpu.calls import bound, calls
        from ..cpu.tables import address, cells

        program, own = self._told(arrays, number)
        shapes = [() if x is None else tuple(x.shape) for x in arrays]
        steps = [() if x is None else self._steps(x) for x in arrays]
        ranks = [len(shape) for shape in shapes]
        columns = {
            "ranks": ranks,
            "firsts": np.cumsum([0, *ranks[:-1]]),
            "lengths": list(chain(*shapes)),
            "strides": list(chain(*steps)),
            "codes": [0 if x is None else self._code(x) for x in arrays],
        }
        self._tables = {name: np.array(row, np.int64) for name, row in columns.items()}
        self._library, self._facts, self._count = library, facts, len(arrays)
        self.found, self._before = np.zeros((2, len(arrays)), np.int64)
        ranks_, firsts, lengths, strides, codes = map(address, self._tables.values())
        known = calls(), len(arrays), id(None), ranks_, firsts, lengths
        target = address(self.found), 8, address(self._before), 8
        self._job = cells(0, 0, *known, *target, 0, codes, strides, *own)
        self._go: Callable[..., int] = bound(program, self._job)
        self.moved = True
        given = tuple(arrays)
        self._go(given)
        refused = self._job[0] < len(arrays) and self._large(arrays[self._job[0]])
        if refused or not self.read(given) or library.places(arrays) != self.found.tolist():
            raise LookupError("these arrays are not laid out as machine code expects")

    @abstractmethod
    def _told(self, arrays: Sequence[Array | None], number: int) -> tuple[Program, tuple[int, ...]]:
        """Return the program, and the final cells of its job record."""

    @abstractmethod
    def _steps(self, array: Array) -> tuple[int, ...]:
        """Return the strides in the library's own unit, elements or bytes."""

    @abstractmethod
    def _code(self, array: Array) -> int:
        """Return the code of an array's dtype; 0 if machine code has none."""

    @staticmethod
    def _large(array: Array | None) -> bool:
        return array is not None and any(length != 1 for length in array.shape)

    def read(self, arrays: tuple[Array | None, ...]) -> bool:
        """Write the addresses of arrays to `found`, and return whether all else is as expected.

        Parameters
        ----------
        arrays : tuple of array or None
            As many arrays. None is allowed at any index; its address is 0.
        """
        job, go = self._job, self._go
        job[0] = job[1] = 0
        while (k := go(arrays)) < self._count:
            # Python can check arrays that machine code cannot read.
            x = arrays[k]
            if x is None or self._library.facts([x]) != [self._facts[k]]:
                return False
            (at,) = self._library.places([x])
            self.found[k] = at
            job[1] += int(at == self._before[k])
            job[0] = k + 1
        self.moved = job[1] != self._count
        if self.moved:
            self._before[:] = self.found
        return True


class CuPyWalk(Walk):
    """A walk through CuPy arrays."""

    def _told(self, arrays: Sequence[Array | None], number: int) -> tuple[Program, tuple[int, ...]]:
        from ..cpu.readers import objects_as_expected, walk_program

        kind = getattr(sys.modules.get("cupy"), "ndarray", None)
        present = [x for x in arrays if x is not None]
        # Without an array to inspect, the memory layout of later ones cannot be verified.
        known = present and objects_as_expected()
        if not known or not all(self._as_expected(x, kind) for x in present):
            raise LookupError("CuPy's arrays are laid out otherwise")
        return walk_program(_CUPY, ("strides", "kind", "number")), (id(kind), number)

    @staticmethod
    def _as_expected(array: Array, kind: Any) -> bool:
        """Whether the fields in an array's memory, all that machine code reads, match its API."""
        if type(array) is not kind or kind.__basicsize__ < 15 * 8:
            return False
        words, memory = _words(array, 15), array.data
        if type(memory).__basicsize__ < 6 * 8:
            return False
        shape, strides = (tuple(_vector(*words[k : k + 2])) for k in (5, 8))
        pointer = _words(memory, 6)
        device = (ctypes.c_int32 * 12).from_address(id(memory))[8]
        known = array.shape, array.strides, id(array.dtype), id(memory), id(memory.mem)
        found = shape, strides, words[13], words[14], pointer[5]
        return known == found and (memory.ptr, memory.device_id) == (pointer[3], device)

    def _steps(self, array: Array) -> tuple[int, ...]:
        return tuple(array.strides)

    def _code(self, array: Array) -> int:
        return id(array.dtype)


_DLPACK = {"float16": (2, 16), "bfloat16": (4, 16), "float32": (2, 32), "float64": (2, 64)}


class TorchWalk(Walk):
    """A walk through torch tensors, by DLPack's exchange API table."""

    kind = 2
    """DLPack's device type code."""

    def _told(self, arrays: Sequence[Array | None], number: int) -> tuple[Program, tuple[int, ...]]:
        from ..cpu.readers import objects_as_expected, torch_call, torch_look, walk_program
        from ..cpu.tables import address, cells

        if not objects_as_expected() or not torch_call():
            raise LookupError("torch has no table of functions for tensors")
        torch: Any = sys.modules["torch"]
        self._kinds = np.array([id(torch.Tensor), id(torch.nn.Parameter)], np.int64)
        self._room, self._dtypes = cells(*[0] * 6), vars(torch)
        own = address(self._kinds), torch_call(), ctypes.addressof(self._room)
        names = ("strides", "kinds", "call", "room", "device")
        look = torch_look("peek(room, 1) == device", "peek(flags, next)")
        return walk_program(look, names), (*own, self.kind | number << 32)

    def _steps(self, array: Array) -> tuple[int, ...]:
        return tuple(array.stride())

    def _code(self, array: Array) -> int:
        for name, (code, bits) in _DLPACK.items():
            if array.dtype is self._dtypes[name]:
                return code | bits << 8 | 1 << 16
        return 0


def _words(thing: object, count: int) -> list[int]:
    return list((ctypes.c_int64 * count).from_address(id(thing)))


def _vector(begin: int, end: int) -> list[int]:
    count = (end - begin) // 8
    # No array has more dimensions: these are not the addresses of a vector.
    if not 0 < count <= 64:
        return []
    return list((ctypes.c_int64 * count).from_address(begin))


def walk_over(
    kind: type[Walk], library: Asking, arrays: Sequence[Array | None], number: int
) -> Walk | None:
    """Return a walk through arrays like some others; None if machine code cannot read them.

    Parameters
    ----------
    kind : type
        The walk class of the library.
    library : Asking
        The library.
    arrays : sequence of array or None
        The arrays to compare with.
    number : int
        Their CUDA device index.

    Returns
    -------
    Walk or None
        The walk.
    """
    facts = library.facts(arrays)
    if facts is None or len(arrays) == 0:
        return None
    try:
        return kind(library, arrays, facts, number)
    except (ImportError, LookupError, RuntimeError):
        # The CPU engine may be missing from the installation, or its compiler not work here.
        return None
