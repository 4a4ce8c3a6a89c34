"""Threads that run a job's tasks together.

Not Numba's own: its OpenMP layer kills a forked child, its workqueue ends the process when two
Python threads call at once. These are Python threads that wait in machine code, without the GIL:
they spin for some microseconds, then sleep. They help one caller at a time; other callers, and all
callers where no thread can be started, do all of their work themselves. A forked child starts its
own threads. The caller returns when all tasks are done: an interrupt of the program waits until
then.
"""

from __future__ import annotations

import ctypes
import os
import queue
import sys
import threading
from functools import cache
from typing import Any

from .calls import bound, calls, sleeping
from .pool import POOL, serve_program
from .source import CELLS
from .tables import cells


class Pool:
    """The threads of this process, and the record that gives them work.

    Attributes
    ----------
    address : int
        The address of the record.
    """

    def __init__(self) -> None:
        self._room = cells(*[0] * (POOL["cells"] + 7))
        # One cache line for each group of cells, against false sharing.
        self.address = -(-ctypes.addressof(self._room) // 64) * 64
        self._record = (ctypes.c_int64 * POOL["cells"]).from_address(self.address)
        self._record[POOL["calls"]] = calls()
        self._asleep: queue.SimpleQueue[None] | None = (
            None if sleeping()[0] else queue.SimpleQueue()
        )
        self._serve = bound(serve_program(), self._record)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def start(self, count: int) -> int:
        """Start threads up to a count, and return how many can help.

        Parameters
        ----------
        count : int
            The wanted number of threads.

        Returns
        -------
        int
            That number, or fewer if no more can be started.
        """
        if len(self._threads) < count:
            with self._lock:
                while len(self._threads) < count:
                    name = f"arrayoptim-{len(self._threads)}"
                    thread = threading.Thread(target=self._help, name=name, daemon=True)
                    try:
                        thread.start()
                    except RuntimeError:
                        # The system's limit is reached, or the interpreter is about to end.
                        break
                    self._threads.append(thread)
        return min(count, len(self._threads))

    def wake(self, count: int) -> None:
        """Wake threads that sleep in Python, if the system has no other way."""
        if self._asleep is not None:
            for _ in range(count):
                self._asleep.put(None)

    def _help(self) -> None:
        """Help until the process ends; machine code returns only if it cannot sleep."""
        while True:
            self._serve()
            if self._asleep is not None:
                self._asleep.get()


_POOL: dict[str, Pool] = {}


def pool() -> Pool:
    """Return the threads of this process."""
    # Concurrent callers must get the same pool.
    return _POOL.get("") or _POOL.setdefault("", Pool())


if hasattr(os, "register_at_fork"):
    # A child inherits no threads, so nobody would finish their work there.
    os.register_at_fork(after_in_child=_POOL.clear)


def available() -> int:
    """Return the default number of threads.

    Returns
    -------
    int
        Numba's number of threads if the program uses Numba or sets ``NUMBA_NUM_THREADS``, otherwise
        the number of processors that this process may run on.
    """
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    # Asking Numba starts its threads; if none run yet, nobody has set their number.
    if parallel is not None and getattr(parallel, "_is_initialized", False):
        return int(parallel.get_num_threads())
    named = os.environ.get("NUMBA_NUM_THREADS", "")
    if named.isdigit() and int(named):
        return int(named)
    return _processors(os.getpid())


@cache
def _processors(process: int) -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def summon(job: Any, count: int) -> None:
    """Have threads help with a job, if they are idle when it starts.

    Parameters
    ----------
    job : ctypes array
        The job.
    count : int
        Number of threads, including the calling one.
    """
    helpers = 0
    if count > 1:
        threads = pool()
        helpers = threads.start(count - 1)
        threads.wake(helpers)
        job[CELLS["pool"]] = threads.address
    job[CELLS["helpers"]] = helpers
