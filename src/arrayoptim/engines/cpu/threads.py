"""Threads that carry out a job's tasks together.

Not Numba's own: its OpenMP layer kills a forked child, its workqueue ends the process when
two Python threads call at once. These are Python threads that release the lock in machine
code. Any number of jobs may be under way, from any number of threads; a forked child
starts threads of its own. Threads claim tasks, so one that comes late finds less to do,
and the caller's own call returns when the last task is done: an interrupt of the program
waits until then.
"""

from __future__ import annotations

import ctypes
import os
import queue
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

Work = tuple[Callable[[int, int], None], Any, Any]

_QUEUE: queue.SimpleQueue[Work] = queue.SimpleQueue()
_THREADS: list[threading.Thread] = []
_LOCK = threading.Lock()


def available() -> int:
    """Give the number of threads to use where none is asked for.

    Returns
    -------
    int
        Numba's number of threads where the program uses Numba or sets
        ``NUMBA_NUM_THREADS``, else the number of processors this process may run on.
    """
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    # Asking Numba starts its threads; unless they run already, nobody has set their number.
    if parallel is not None and getattr(parallel, "_is_initialized", False):
        return int(parallel.get_num_threads())
    named = os.environ.get("NUMBA_NUM_THREADS", "")
    if named.isdigit() and int(named):
        return int(named)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(kernel: Callable[[int, int], None], job: Any, keep: Any, count: int) -> None:
    """Carry out all tasks of a job.

    Parameters
    ----------
    kernel : callable
        The machine code.
    job : ctypes array
        A fresh job: a thread that wakes up late still looks at it.
    keep : object
        What must live as long as any thread works on the job.
    count : int
        Number of threads, the calling one included.
    """
    if count > 1:
        _start(count - 1)
        for _ in range(count - 1):
            _QUEUE.put((kernel, job, keep))
    kernel(ctypes.addressof(job), 1)


def _start(count: int) -> None:
    if len(_THREADS) >= count:
        return
    with _LOCK:
        while len(_THREADS) < count:
            name = f"arrayoptim-{len(_THREADS)}"
            thread = threading.Thread(target=_serve, args=(_QUEUE,), name=name, daemon=True)
            thread.start()
            _THREADS.append(thread)


def _serve(work: queue.SimpleQueue[Work]) -> None:
    while True:
        kernel, job, keep = work.get()
        kernel(ctypes.addressof(job), 0)
        del kernel, job, keep


def _forget() -> None:
    """Let a forked child start anew: threads are not inherited, locks are as they were."""
    global _QUEUE, _LOCK
    _QUEUE, _LOCK = queue.SimpleQueue(), threading.Lock()
    _THREADS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@cache
def yield_address() -> int:
    """Give the address of the C function that lets another thread run.

    Returns
    -------
    int
        The address; 0 where there is no such function.
    """
    if os.name != "posix":
        return 0
    function = getattr(ctypes.CDLL(None), "sched_yield", None)
    return ctypes.cast(function, ctypes.c_void_p).value or 0 if function else 0
