"""Looking at all arrays of a step in one call of machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...arrays.memory import Stretches
from .addresses import ITEMSIZE, Reader, reals
from .calls import bound, calls
from .readers import LOOK
from .tables import IntTable, address, cells

_CELLS = {name: k for k, name in enumerate(LOOK)}


class Look:
    """The look at the arrays of a batch, with the record that is kept for it.

    Parameters
    ----------
    reader : Reader
        Knows the arrays that are wanted.
    dtype : str
        The dtype of the parameters.
    places : numpy.ndarray
        Where the batch's arrays are in the tuples of all.
    sizes : numpy.ndarray
        Number of reals of each.
    pointers, gradients : numpy.ndarray
        The tables with the addresses of parameters, in the first column, and of gradients.

    Attributes
    ----------
    call : callable
        A function of all parameters and all gradients, as tuples. It is 0 where the gradients'
        addresses are in their table, and otherwise tells what is not as expected, as far as
        machine code can tell; see `readers.LOOK`.
    starts : numpy.ndarray or None
        What `Stretches.starts` was when the function heard of the memory that the step writes.
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
        self._hints = np.zeros(len(sizes), np.int64)
        self._tables = places, sizes, pointers, gradients
        known = dict.fromkeys(LOOK, 0) | {
            "calls": calls(),
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
        self._record = cells(*known.values(), *special)
        served = readers is not None and marks is not None
        self.call: Callable[..., int] = (
            bound(readers.look, self._record) if readers and served else lambda *_: 1
        )
        self.starts: Any = None
        self._occupied: Any = None

    def expect(self, kind: str) -> None:
        """Expect gradients of that dtype from now on."""
        marks = self._reader.marks(kind, False) or (0, 0)
        self._record[_CELLS["grad_dtype"]], self._record[_CELLS["grad_flags"]] = marks
        self._record[_CELLS["item"]] = ITEMSIZE[reals(kind)]

    def reach(self, occupied: Stretches) -> None:
        """Take up which memory the step writes."""
        record, self._occupied = self._record, (occupied.starts, occupied.furthest)
        self.starts = occupied.starts
        record[_CELLS["starts"]] = address(occupied.starts)
        record[_CELLS["furthest"]] = address(occupied.furthest)
        record[_CELLS["stretches"]] = len(occupied.starts)
        self._hints[:] = 0

    def rouse(self, pool: int) -> None:
        """Tell the threads of a pool, by its address, of work to come at each look."""
        self._record[_CELLS["pool"]] = pool
