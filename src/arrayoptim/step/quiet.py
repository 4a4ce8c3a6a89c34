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
    """A context per thread in which NumPy gives no warnings."""

    def __init__(self) -> None:
        context = contextvars.copy_context()
        context.run(np.seterr, all="ignore")
        # Attributes of a thread take longer than entries of a list.
        self.busy_and_run: list[Any] = [False, context.run]


_THREAD = _Thread()


def quietly(function: Callable[..., Result], *args: Any) -> Result:
    """Call a function of numbers as under ``numpy.errstate(all="ignore")``, but faster.

    Parameters
    ----------
    function : callable
        A function that asks for no context variable of the caller's.
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
