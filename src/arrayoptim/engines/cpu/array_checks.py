"""Checks of a step's arrays: in one call of machine code, or one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ...arrays.backend import COMPUTE, ITEMSIZE, reals
from ...arrays.memory import Addresses, Stretches
from .addresses import Reader
from .calls import bound, calls
from .columns import Column
from .readers import LOOK
from .tables import IntTable, address, cells

Take = Callable[[Sequence[Any]], tuple[Any, ...]]

_CELLS = {name: k for k, name in enumerate(LOOK)}


class Look:
    """The addresses of a batch's parameters and gradients.

    Parameters
    ----------
    reader : Reader
        Knows the parameters' shapes and memory order.
    dtype : str
        The dtype of the parameters.
    places : sequence of int
        Their indices among all parameters of the plan.
    take : callable
        Returns the batch's part of a sequence over all.
    sizes : numpy.ndarray
        Number of reals of each.
    pointers : numpy.ndarray
        A table with the addresses of parameters in the first column.

    Attributes
    ----------
    kind : str
        The dtype of the gradients.
    gradients : numpy.ndarray
        A table with their addresses.
    copies : tuple of array
        The gradients that the kernels read, if any of them is a copy.
    """

    def __init__(
        self,
        reader: Reader,
        dtype: str,
        places: Sequence[int],
        take: Take,
        sizes: IntTable,
        pointers: IntTable,
    ) -> None:
        self._reader, self._take, self._dtype, self._places = reader, take, dtype, places
        self._sizes, self._pointers = sizes, pointers
        self.gradients, self._found = np.zeros((2, len(sizes), 1), np.int64)
        self._params = Column(reader, dtype, self._found, 0, True, pointers)
        self._kinds: dict[str, Column] = {}
        self._index, self._hints = np.asarray(places, np.int64), np.zeros(len(sizes), np.int64)
        readers, special = reader.readers()
        marks = reader.marks(dtype, True)
        known = dict.fromkeys(LOOK, 0) | {
            "calls": calls(),
            "count": len(sizes),
            "none": id(None),
            "index": address(self._index),
            **dict(zip(("ranks", "firsts", "lengths"), reader.tables, strict=True)),
            "pointers": address(pointers),
            "stride": 8 * pointers.shape[1],
            "gradients": address(self.gradients),
            "sizes": address(sizes),
            "hints": address(self._hints),
            **dict(zip(("param_dtype", "param_flags"), marks or (0, 0), strict=True)),
        }
        self._record = cells(*known.values(), *special)
        self._quick = bound(readers.look, self._record) if readers and marks else _unknown
        self._starts: Any = None
        self._stretches: tuple[Any, ...] = ()
        self._pool = 0
        self.copies: tuple[Any, ...] = ()
        self._use(dtype)

    def stretches(self) -> tuple[Addresses, Addresses]:
        """Return the first address of each parameter, and the one after its last.

        Returns
        -------
        (numpy.ndarray, numpy.ndarray)
            The addresses.
        """
        starts = self._pointers[:, 0]
        return starts, starts + self._sizes * ITEMSIZE[reals(self._dtype)]

    def fits(self, params: Sequence[Any]) -> bool:
        """Whether the parameters have unchanged addresses and layouts.

        Parameters
        ----------
        params : sequence of array
            All parameters of the plan.
        """
        mine = self._take(params)
        return not self._params.read(mine) and self._params.same == len(mine)

    def quick(
        self,
        params: tuple[Any, ...],
        grads: tuple[Any, ...],
        occupied: Stretches,
        pool: int,
    ) -> bool:
        """Record the gradients' addresses, if machine code finds all arrays as expected.

        Parameters
        ----------
        params, grads : tuple of array
            All parameters and gradients of the plan.
        occupied : Stretches
            The memory that the step writes.
        pool : int
            Address of the thread pool to wake early; 0 for none.
        """
        record = self._record
        if occupied.starts is not self._starts:
            # An interrupt may come between any two writes, so the one that marks completion is
            # last.
            self._starts = None
            # Referenced here, so that the memory that machine code reads stays alive.
            self._stretches = starts, furthest = occupied.starts, occupied.furthest
            record[_CELLS["starts"]] = address(starts)
            record[_CELLS["furthest"]] = address(furthest)
            record[_CELLS["stretches"]] = len(starts)
            self._hints[:] = 0
            self._starts = starts
        if pool != self._pool:
            record[_CELLS["pool"]] = self._pool = pool
        return not self._quick(params, grads)

    def closer(
        self,
        params: tuple[Any, ...],
        grads: tuple[Any, ...],
        occupied: Stretches,
        paths: Sequence[str],
    ) -> bool:
        """Record the gradients' addresses, after copying those that kernels cannot read directly.

        Parameters
        ----------
        params, grads : tuple of array
            All parameters and gradients of the plan.
        occupied : Stretches
            The memory that the step writes. A gradient that overlaps it is copied.
        paths : sequence of str
            The parameters' names in messages.

        Returns
        -------
        bool
            Whether the parameters have not moved.
        """
        if not self.fits(params):
            return False
        mine = self._take(grads)
        refused = self._located.read(mine)
        if refused:
            for k in refused:
                self._reader.check(mine[k], k, self._dtype, paths[self._places[k]])
            mine = self._conformed(mine)
        starts = self.gradients[:, 0]
        ends = starts + self._sizes * ITEMSIZE[reals(self.kind)]
        self.copies = self._replaced(mine, occupied.touched(starts, ends))
        return True

    def _use(self, kind: str) -> None:
        """Expect gradients of that dtype from now on."""
        if kind not in self._kinds:
            column = Column(self._reader, kind, self.gradients, 0, False, self._pointers)
            self._kinds[kind] = column
        # Until everything is written, no gradient passes the checks of machine code.
        self._record[_CELLS["grad_dtype"]] = -1
        self.kind, self._located = kind, self._kinds[kind]
        mark, flags = self._reader.marks(kind, False) or (0, 0)
        self._record[_CELLS["grad_flags"]] = flags
        self._record[_CELLS["item"]] = ITEMSIZE[reals(kind)]
        self._record[_CELLS["grad_dtype"]] = mark

    def _conformed(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        """Use the gradients' common dtype; copy those that kernels cannot read directly."""
        kinds = {self._reader.dtype(g) for g in grads if g is not None}
        if reals(self._dtype) != self._dtype:
            self._use(self._dtype)
        else:
            self._use(kinds.pop() if len(kinds) == 1 else COMPUTE[self._dtype])
        return self._replaced(grads, self._located.read(grads))

    def _replaced(self, grads: tuple[Any, ...], places: Iterable[int]) -> tuple[Any, ...]:
        copies = list(grads)
        for k in places:
            copies[k] = self._reader.conform(grads[k], k, self.kind)
        if self._located.read(tuple(copies)):
            raise RuntimeError("a copy of a gradient is not as wanted")
        return tuple(copies)


def _unknown(*arrays: Any) -> int:
    """Stand in for machine code that does not know such arrays."""
    return 1
