"""Where the elements of arrays are, and whether kernels can work there.

A thousand arrays are looked at in some microseconds, where asking each through Python
takes one microsecond or more. Those that are not exactly as expected are asked.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._cpu_tables import IntTable, address, cells

_REALS = {"complex64": "float32", "complex128": "float64"}

FLOATS = ("float16", "bfloat16", "float32", "float64")
"""The real dtypes that kernels know."""

ITEMSIZE = {**dict(zip(FLOATS, (2, 2, 4, 8), strict=True)), "uint8": 1, "int16": 2}
"""Bytes of the dtypes that kernels know, 8-bit codes and their exponents included."""


def reals(dtype: str) -> str:
    """Give the dtype of the reals in memory: a complex number is two.

    Parameters
    ----------
    dtype : str
        Name of a dtype.

    Returns
    -------
    str
        Name of a real dtype.
    """
    return _REALS.get(dtype, dtype)


class Reader(ABC):
    """Reads the addresses of arrays of known shapes and orders in memory.

    Parameters
    ----------
    params : sequence of array
        The parameters. What is read has their shapes and orders.
    """

    def __init__(self, params: Sequence[Any]) -> None:
        self.shapes = [tuple(p.shape) for p in params]
        ranks = [len(shape) for shape in self.shapes]
        self._ranks = np.array(ranks, np.int64)
        self._firsts = np.cumsum([0, *ranks[:-1]], dtype=np.int64)
        self._lengths = np.array(list(itertools.chain(*self.shapes)), np.int64)
        self._tables = [address(t) for t in (self._ranks, self._firsts, self._lengths)]

    def read(
        self, arrays: tuple[Any, ...], dtype: str, table: IntTable, column: int, writes: bool
    ) -> list[int]:
        """Write the addresses of arrays into a column of a pointer table.

        Parameters
        ----------
        arrays : tuple of array or None
            One array for each parameter; None gives the address 0.
        dtype : str
            The dtype they must have.
        table : numpy.ndarray
            The pointer table: one row for each parameter.
        column : int
            The column to write.
        writes : bool
            Whether the arrays must be writeable.

        Returns
        -------
        list of int
            Places of arrays that are not as wanted, whose addresses were not written.
        """
        refused: list[int] = []
        look, special = self._fast(dtype, writes)
        head = (0, id(arrays) + tuple.__basicsize__, len(arrays), id(None), *self._tables)
        job = cells(*head, address(table) + 8 * column, 8 * table.shape[1], *special)
        where, place = ctypes.addressof(job), 0
        while place < len(arrays):
            if look is not None:
                # torch raises for what it cannot describe; that one is asked for next.
                with contextlib.suppress(RuntimeError, BufferError):
                    look(where, 1)
                place = job[0]
            if place < len(arrays):
                found = self._ask(arrays[place], place, dtype, writes)
                if found is None:
                    refused.append(place)
                else:
                    table[place, column] = found
                place = job[0] = place + 1
        return refused

    def _ask(self, array: Any, k: int, dtype: str, writes: bool) -> int | None:
        if array is None:
            return 0
        good = (
            self.refusal(array, writes) is None
            and self.dtype(array) == dtype
            and tuple(array.shape) == self.shapes[k]
            and self._ordered(array, k)
        )
        return self._address(array) if good else None

    def check(self, grad: Any, k: int, dtype: str, path: str) -> None:
        """Raise where an array cannot be the gradient of a parameter, not even as a copy.

        Parameters
        ----------
        grad : object
            The gradient.
        k : int
            Place of the parameter.
        dtype : str
            Its dtype.
        path : str
            What messages call it.

        Raises
        ------
        TypeError
            For another kind of array or dtype.
        ValueError
            For another shape.
        """
        reason = self.foreign(grad)
        if reason:
            raise TypeError(f"gradient of parameter {path!r}: {reason}")
        if tuple(grad.shape) != self.shapes[k]:
            raise ValueError(
                f"gradient of parameter {path!r}: found shape {tuple(grad.shape)}, "
                f"wanted {self.shapes[k]}"
            )
        found = self.dtype(grad)
        if found not in FLOATS and (found not in _REALS or dtype not in _REALS):
            raise TypeError(f"gradient of parameter {path!r}: found dtype {found}, wanted {dtype}")

    @abstractmethod
    def _fast(self, dtype: str, writes: bool) -> tuple[Any, tuple[int, ...]]:
        """Give the kernel that reads, or None, and the cells of its job from the tenth on."""

    @staticmethod
    @abstractmethod
    def foreign(array: Any) -> str | None:
        """Say why an array cannot even be copied.

        Parameters
        ----------
        array : object
            The array.

        Returns
        -------
        str or None
            The reason; None where there is none.
        """

    @classmethod
    @abstractmethod
    def refusal(cls, array: Any, writes: bool) -> str | None:
        """Say why an array's memory cannot be used as it is, its order apart.

        Parameters
        ----------
        array : object
            The array.
        writes : bool
            Whether it must be writeable.

        Returns
        -------
        str or None
            The reason; None where there is none.
        """

    @staticmethod
    @abstractmethod
    def dense(array: Any, like: Any) -> bool:
        """Whether an array has no gaps and the order of another one.

        Parameters
        ----------
        array, like : array
            Two arrays of one shape; they may be the same.

        Returns
        -------
        bool
            False where one loop cannot go through both.
        """

    @staticmethod
    @abstractmethod
    def dtype(array: Any) -> str:
        """Give the name of an array's dtype.

        Parameters
        ----------
        array : array
            The array.

        Returns
        -------
        str
            Such as ``"float32"``.
        """

    @abstractmethod
    def _ordered(self, array: Any, k: int) -> bool:
        """Whether an array has the order in memory of parameter `k`."""

    @abstractmethod
    def _address(self, array: Any) -> int:
        """Give the address of the first element."""

    @abstractmethod
    def conform(self, array: Any, k: int, dtype: str) -> Any:
        """Give a copy of an array in the order of a parameter.

        Parameters
        ----------
        array : array
            An array of the shape of parameter `k`.
        k : int
            Place of the parameter.
        dtype : str
            The dtype wanted.

        Returns
        -------
        array
            The copy.
        """

    def wrote(self, params: Sequence[Any]) -> None:  # noqa: B027  nothing, where nobody counts
        """Tell the library that parameters have changed behind its back.

        Parameters
        ----------
        params : sequence of array
            The parameters.
        """
