"""Calls without NumPy's warnings."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

__all__ = ["quietly"]

Result = TypeVar("Result")


class _Thread(threading.local):
    """Per-thread context in which NumPy's floating-point warnings are off."""

    def __init__(self) -> None:
        context = contextvars.copy_context()
        context.run(np.seterr, all="ignore")
        # Access to attributes of a threading.local is slower than to list items.
        self.busy_and_run: list[Any] = [False, context.run]


_THREAD = _Thread()


def quietly(function: Callable[..., Result], *args: Any) -> Result:
    """Call a function as under ``numpy.errstate(all="ignore")``, but faster.

    Parameters
    ----------
    function : callable
        A function that does not read context variables set by the caller.
    *args
        Its arguments.
    """
    thread = _THREAD.busy_and_run
    if thread[0]:
        with np.errstate(all="ignore"):
            return function(*args)
    thread[0] = True
    try:
        found: Result = thread[1](function, *args)
        return found
    finally:
        thread[0] = False
