"""Looking at all arrays of a step in one call of machine code."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from struct import Struct
from typing import Any

import numpy as np

from ...arrays.memory import Stretches
from .addresses import ITEMSIZE, Reader, reals
from .readers import LOOK
from .tables import IntTable, address, cells

_CELLS = {name: k for k, name in enumerate(LOOK)}
_PACK = Struct("=5q").pack_into

GOOD, OTHER_PARAMETERS, OTHER_GRADIENTS = range(3)
"""What is found of the arrays of a step."""


class Look:
    """The look at the arrays of a batch, with the job that is kept for it.

    Parameters
    ----------
    reader : Reader
        Knows the arrays that are wanted.
    dtype : str
        The dtype of the parameters.
    places : numpy.ndarray
        Where the batch's arrays are in the sequences of all.
    sizes : numpy.ndarray
        Number of reals of each.
    pointers, gradients : numpy.ndarray
        The tables with the addresses of parameters, in the first column, and of gradients.
    """

    def __init__(
        self,
        reader: Reader,
        dtype: str,
        places: IntTable,
        sizes: IntTable,
        pointers: IntTable,
        gradients: IntTable,
    ) -> None:
        self._reader = reader
        readers, special = reader.readers()
        marks = reader.marks(dtype, True)
        self._call = readers.look.call if readers and marks else None
        self._hints = np.zeros(len(sizes), np.int64)
        self._tables = places, sizes, pointers, gradients
        known = dict.fromkeys(LOOK, 0) | {
            "count": len(sizes),
            "none": id(None),
            "index": address(places),
            **dict(zip(("ranks", "firsts", "lengths"), reader.tables, strict=True)),
            "pointers": address(pointers),
            "stride": 8 * pointers.shape[1],
            "gradients": address(gradients),
            "sizes": address(sizes),
            "hints": address(self._hints),
            **dict(zip(("param_dtype", "param_flags"), marks or (0, 0), strict=True)),
        }
        self._job = cells(*known.values(), *special)
        self._where = ctypes.addressof(self._job)
        self._starts: Any = None

    def expect(self, kind: str) -> None:
        """Expect gradients of that dtype from now on."""
        marks = self._reader.marks(kind, False) or (0, 0)
        self._job[_CELLS["grad_dtype"]], self._job[_CELLS["grad_flags"]] = marks
        self._job[_CELLS["item"]] = ITEMSIZE[reals(kind)]

    def __call__(
        self, params: Sequence[Any], grads: Sequence[Any], occupied: Stretches, pool: int
    ) -> int:
        """Look at arrays.

        Parameters
        ----------
        params, grads : list or tuple of array
            All parameters and gradients, of which the batch has some.
        occupied : Stretches
            The memory that the step writes.
        pool : int
            The address of threads that are told of work to come; 0 for none.

        Returns
        -------
        int
            `GOOD` where the gradients' addresses are in their table; otherwise what is not as
            expected, as far as machine code can tell.
        """
        if self._call is None:
            return OTHER_PARAMETERS
        job = self._job
        if occupied.starts is not self._starts:
            self._starts = occupied.starts
            job[_CELLS["starts"]] = address(occupied.starts)
            job[_CELLS["furthest"]] = address(occupied.furthest)
            job[_CELLS["stretches"]] = len(occupied.starts)
            self._hints[:] = 0
        lists = type(params) is list, type(grads) is list
        _PACK(job, 8, pool, id(params), id(grads), *lists)
        job[0] = OTHER_PARAMETERS
        try:
            self._call(self._where, 1)
        except (RuntimeError, BufferError):  # torch raises for what it cannot describe
            return OTHER_GRADIENTS
        return int(job[0])
