"""Pointer tables, and the jobs that fill them.

A thousand arrays are checked in some microseconds, where each takes a microsecond or more through
Python. Only arrays that are not exactly as expected are checked there.
"""

from __future__ import annotations

from typing import Any

from .addresses import Reader
from .calls import bound, calls
from .tables import IntTable, address, cells


class Column:
    """One column of a pointer table, with the job that fills it.

    Parameters
    ----------
    reader : Reader
        Knows the expected arrays.
    dtype : str
        The dtype they must have.
    table : numpy.ndarray
        The pointer table: one row for each parameter.
    place : int
        The column of the table.
    writes : bool
        Whether the arrays must be writeable.
    versus : numpy.ndarray
        Another pointer table, whose first column is compared with the addresses.

    Attributes
    ----------
    same : int
        Number of the last addresses equal to those in `versus`.
    """

    def __init__(
        self,
        reader: Reader,
        dtype: str,
        table: IntTable,
        place: int,
        writes: bool,
        versus: IntTable,
    ) -> None:
        self._reader, self._wanted = reader, (dtype, writes)
        self._table, self._place, self._versus = table, place, versus
        readers, special = reader.readers()
        marks = reader.marks(dtype, writes)
        target = address(table) + 8 * place, 8 * table.shape[1]
        other = address(versus), 8 * versus.shape[1]
        count = len(reader.shapes)
        known = calls(), count, id(None), *reader.tables
        self._job = cells(0, 0, *known, *target, *other, *(marks or (0, 0)), *special)
        self._walk = bound(readers.walk, self._job) if readers and marks else None
        self.same = 0

    def read(self, arrays: tuple[Any, ...]) -> list[int]:
        """Write the addresses of arrays into the column.

        Parameters
        ----------
        arrays : tuple of array or None
            One array for each parameter; None has address 0.

        Returns
        -------
        list of int
            Indices of unexpected arrays, whose addresses were not written.
        """
        job, refused = self._job, []
        job[0], job[1] = 0, 0
        while job[0] < len(arrays):
            if self._walk is not None:
                self._walk(arrays)
            if job[0] < len(arrays) and not self._asked(arrays[job[0]], job[0]):
                refused.append(job[0])
            job[0] += 1
        self.same = job[1]
        return refused

    def _asked(self, array: Any, k: int) -> bool:
        found = self._reader.ask(array, k, *self._wanted)
        if found is None:
            return False
        self._table[k, self._place] = found
        self._job[1] += int(found == self._versus[k, 0])
        return True
