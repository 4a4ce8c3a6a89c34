"""How much work something is, counted in calls: the same on every machine, however busy."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Calls:
    """The number of calls of functions, those of C included.

    Attributes
    ----------
    count : int
        How many there have been.
    """

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        """Count one, as a profile function."""
        self.count += event in ("call", "c_call")


@contextmanager
def counted() -> Iterator[Calls]:
    """Count the calls of this thread; none of what hypothesis calls when garbage is collected."""
    calls, before, collects = Calls(), sys.getprofile(), gc.isenabled()
    gc.disable()
    sys.setprofile(calls)
    try:
        yield calls
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
