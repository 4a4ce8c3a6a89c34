"""Work in a separate thread, where no signal handler runs.

Python runs handlers in the main thread, between any two bytecodes. In a callback of HDF5 an
exception must not be raised: it is lost, or replaced by another one.
"""

from __future__ import annotations

import _thread
import queue
from collections.abc import Callable
from typing import Any

Ask = Callable[[Callable[[], Any]], Any]


class Stopped(BaseException):
    """The caller no longer wants the work."""


def carry_out(work: Callable[[Ask, Callable[[], None]], None]) -> None:
    """Run work in another thread, and wait for it.

    Parameters
    ----------
    work : callable
        Accepts two functions. The first calls a function in the caller's thread, whose devices,
        streams and settings it may need, and returns its result. The second raises `Stopped` if the
        caller was interrupted.

    Raises
    ------
    BaseException
        What the work raised, or what interrupted this thread; the work has ended by then.
    """
    task = _Task(work)
    try:
        try:
            _thread.start_new_thread(task.run, ())
        except RuntimeError:  # no thread can be started, as during shutdown
            if task.claim():
                work(_called, _nothing)
                return
        task.serve()
    except BaseException:
        task.stop()
        raise
    try:
        if task.error is not None:
            raise task.error
    finally:
        del task  # avoids a reference cycle through the error's traceback


def _called(function: Callable[[], Any]) -> Any:
    return function()


def _nothing() -> None:
    return None


class _Task:
    """The shared state of the two threads."""

    def __init__(self, work: Callable[[Ask, Callable[[], None]], None]) -> None:
        self._work = work
        self._begun = _thread.allocate_lock()
        self._wishes: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._running = _thread.allocate_lock()
        self._running.acquire()
        self._stopped = False
        self.error: BaseException | None = None

    def claim(self) -> bool:
        """Whether the caller must do the work because the worker never started it."""
        return self._begun.acquire(blocking=False)

    # ---- the worker

    def run(self) -> None:
        """Do the work, unless it was stopped before it started."""
        if not self.claim():
            return
        try:
            self._work(self._ask, self._check)
        except BaseException as error:
            self.error = error
        finally:
            self._wishes.put(None)
            self._running.release()

    def _ask(self, function: Callable[[], Any]) -> Any:
        self._check()
        self._wishes.put(function)
        answer = self._answers.get()
        self._check()
        return answer

    def _check(self) -> None:
        if self._stopped:
            raise Stopped

    # ---- the caller

    def serve(self) -> None:
        """Run calls for the worker until it ends."""
        while (wish := self._wishes.get()) is not None:
            self._answers.put(wish())

    def stop(self) -> None:
        """Stop the worker, and wait until it has ended."""
        self._stopped = True
        if self.claim():
            return
        self._answers.put(None)
        self._running.acquire()
