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
        self.busy = False
        self.context = contextvars.copy_context()
        self.context.run(np.seterr, all="ignore")


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
    thread = _THREAD
    if thread.busy:
        with np.errstate(all="ignore"):
            return function(*args)
    thread.busy = True
    try:
        return thread.context.run(function, *args)
    finally:
        thread.busy = False
