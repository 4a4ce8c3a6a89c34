"""Reading NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from .addresses import Reader
from .readers import Readers, numpy_readers
from .tables import address

_ALIGNED, _WRITEABLE = 0x100, 0x400


class NumPyReader(Reader):
    """Reads NumPy arrays in C or Fortran order."""

    def __init__(self, params: Sequence[Any]) -> None:
        super().__init__(params)
        self._orders = ["C" if p.flags.c_contiguous else "F" for p in params]
        order = np.array([1 if order == "C" else 2 for order in self._orders], np.int64)
        self._flags = {False: order | _ALIGNED, True: order | _ALIGNED | _WRITEABLE}
        self._places = {writes: address(table) for writes, table in self._flags.items()}

    def readers(self) -> tuple[Readers | None, tuple[int, ...]]:
        """Return the kernels that read such arrays; see `Reader`."""
        return numpy_readers(), (id(np.ndarray),)

    def marks(self, dtype: str, writes: bool) -> tuple[int, int] | None:
        """Return the values against which kernels check arrays; see `Reader`."""
        kind = _numpy_dtype(dtype)
        return None if kind is None else (id(kind), self._places[writes])

    @staticmethod
    def foreign(array: Any) -> str | None:
        """Return why an array cannot be copied; see `Reader`."""
        if isinstance(array, np.ndarray | np.generic):
            return None
        return f"found a {type(array).__qualname__}, wanted a NumPy array"

    @classmethod
    def refusal(cls, array: Any, writes: bool) -> str | None:
        """Return why an array's memory cannot be used; see `Reader`."""
        if not isinstance(array, np.ndarray):
            return cls.foreign(array) or "a NumPy scalar has no memory to point at"
        if writes and not array.flags.writeable:
            return "the array is read-only"
        if not (array.dtype.isnative and array.flags.aligned):
            return "the array's bytes are swapped or not aligned"
        return None

    @staticmethod
    def dense(array: Any, like: Any) -> bool:
        """Whether an array is dense with the memory order of another one; see `Reader`."""
        order = "C_CONTIGUOUS" if like.flags.c_contiguous else "F_CONTIGUOUS"
        return bool(like.flags[order] and array.flags[order])

    @staticmethod
    def rowwise(array: Any) -> bool:
        """Whether an array is C-contiguous; see `Reader`."""
        return bool(array.flags.c_contiguous)

    @staticmethod
    def dtype(array: Any) -> str:
        """Return the name of an array's dtype; see `Reader`."""
        return _name(array.dtype)

    def _ordered(self, array: Any, k: int) -> bool:
        return bool(array.flags[self._orders[k]])

    def _address(self, array: Any) -> int:
        return address(array)

    def conform(self, array: Any, k: int, dtype: str) -> Any:
        """Return a copy of an array; see `Reader`."""
        order: Any = self._orders[k]
        # Overflowing entries may still be clipped before the final check.
        with np.errstate(over="ignore"):
            return np.array(array, dtype=_numpy_dtype(dtype), order=order)


@cache
def _name(dtype: np.dtype[Any]) -> str:
    # Cached, as NumPy builds the name on each access.
    return str(dtype.name)


@cache
def _numpy_dtype(name: str) -> np.dtype[Any] | None:
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ModuleNotFoundError:
        return None
    kind: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return kind
