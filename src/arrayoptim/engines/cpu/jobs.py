"""Jobs: the records that kernels work through, and how they are begun and carried out."""

from __future__ import annotations

from struct import Struct

from . import threads
from .calls import bound, calls
from .pool import run_program
from .source import CELLS, JOB
from .tables import Chunks, address, cells

_OPEN = Struct("=2q").pack_into

PARALLEL = 100_000
"""Elements from which on more threads than one are faster."""

_BRIEF = 8192
"""Elements up to which letting in another thread of Python would take longer than the job."""


class Job:
    """What is to be done with the arrays of a batch, again and again.

    Parameters
    ----------
    elements : int
        Number of reals of all tensors.
    chunks : Chunks
        How tensors are cut.
    known : dict of str to int
        Cells that stay as they are.

    Attributes
    ----------
    record : ctypes array
        The cells.
    """

    def __init__(self, elements: int, chunks: Chunks, known: dict[str, int]) -> None:
        self.chunks, self._wide = chunks, elements > PARALLEL
        values = dict.fromkeys(JOB, 0) | {
            "tasks": chunks.tasks,
            "bounds": address(chunks.bounds),
            "chunks": address(chunks.table),
            "calls": calls(),
            "brief": elements <= _BRIEF and len(chunks.table) <= _BRIEF // 16,
        }
        self.record = cells(*(values | known).values())
        self._carry_out = bound(run_program(), self.record)

    def __setitem__(self, name: str, value: int) -> None:
        """Write a cell."""
        self.record[CELLS[name]] = value

    def again(self) -> None:
        """Let all tasks be done anew."""
        _OPEN(self.record, 0, 0, 0)

    def rouses(self, count: int | None) -> int:
        """Return the address of threads that are to hear of the job before it begins, or 0."""
        return threads.pool().address if self._wide and count != 1 else 0

    def run(self, count: int | None) -> None:
        """Carry out what is left of the job.

        Parameters
        ----------
        count : int or None
            Number of threads, if it is not to be the usual one.
        """
        if self._wide:
            count = threads.available() if count is None else count
            threads.summon(self.record, min(count, self.chunks.tasks))
        self._carry_out()
