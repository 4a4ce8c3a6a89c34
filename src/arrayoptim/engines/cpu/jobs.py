"""Jobs: the records that kernels process, and how they are run."""

from __future__ import annotations

from struct import Struct
from time import perf_counter

from . import threads
from .calls import bound, calls
from .pool import run_program
from .source import CELLS, JOB
from .tables import Chunks, address, cells

_OPEN = Struct("=2q").pack_into

_SHORTEST, _LONGEST, _TRIAL = 16, 512, 3
"""Number of jobs run one way before the other is tried, and number of jobs of a trial."""

PARALLEL = 100_000
"""Number of elements from which several threads are faster than one."""

_BRIEF = 8192
"""Number of elements up to which releasing the GIL would take longer than the job."""


class Job:
    """The work on the arrays of a batch, repeated at each step.

    Parameters
    ----------
    elements : int
        Number of reals of all tensors.
    chunks : Chunks
        The chunks of the tensors.
    known : dict of str to int
        Constant cells.

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
        self._help = _Help()
        self._carry_out = bound(run_program(), self.record)

    def __setitem__(self, name: str, value: int) -> None:
        """Write a cell."""
        self.record[CELLS[name]] = value

    def again(self) -> None:
        """Mark all tasks as not done."""
        _OPEN(self.record, 0, 0, 0)

    def rouses(self, count: int | None) -> int:
        """Return the address of the pool to wake before the job starts, or 0."""
        wanted = self._wide and count != 1 and self._help.wanted
        return threads.pool().address if wanted else 0

    def run(self, count: int | None) -> None:
        """Run the remaining tasks of the job.

        Parameters
        ----------
        count : int or None
            Number of threads; the default if None.
        """
        if not self._wide:
            self._carry_out()
            return
        count = threads.available() if count is None else count
        count = min(count, self.chunks.tasks)
        threads.summon(self.record, count if self._help.wanted else 1)
        start = perf_counter()
        self._carry_out()
        self._help.noted(perf_counter() - start)


class _Help:
    """Whether helper threads make a job faster.

    On a busy machine a helper may have to wait for a processor, or lose it to another program in
    the middle of a task, and then all threads wait for milliseconds. So the times of jobs with and
    without help are compared: now and then, and less often the longer one of them has won, a few
    jobs are run the other way.
    """

    def __init__(self) -> None:
        self.wanted = True
        self._usual, self._left, self._period = True, _SHORTEST, _SHORTEST
        self._seconds = {True: 0.0, False: 0.0}

    def noted(self, seconds: float) -> None:
        """Record the duration of a job, with or without help as chosen."""
        known = self._seconds[self.wanted]
        # A job delayed by another program says little about later ones.
        self._seconds[self.wanted] = known + (min(seconds, 3 * known) - known) / 4 or seconds
        self._left -= 1
        if self._left:
            return
        if self.wanted is self._usual:
            self.wanted, self._left = not self._usual, _TRIAL
            return
        if self._seconds[self.wanted] < 0.9 * self._seconds[self._usual]:
            self._usual, self._period = self.wanted, _SHORTEST
        else:
            self.wanted, self._period = self._usual, min(2 * self._period, _LONGEST)
        self._left = self._period
