"""Locks that are released in a forked child.

Only the forking thread exists in the child, so a lock that another thread held at that moment
would never be released there.
"""

from __future__ import annotations

# Imported first, so its hooks run after ours: a fork that already held the lock of `logging` would
# wait in vain for a thread whose imports need it.
import logging  # noqa: F401
import os
import threading
from typing import Any, TypeAlias
from weakref import WeakSet

Lock: TypeAlias = Any
"""The type that `lock` returns."""

PATIENCE = 10.0
"""Seconds that a fork waits for work that must not be interrupted."""

_KNOWN: WeakSet[Lock] = WeakSet()
_AWAITED: list[Lock] = []
_HELD: list[Lock] = []


def lock(*, awaited: bool = False) -> Lock:
    """Return a reentrant lock.

    Parameters
    ----------
    awaited : bool
        Whether a fork waits, for `PATIENCE` at most, until no other thread holds it: for guarded
        objects that a fork would leave broken, such as a compiler. Such a lock is never released.
    """
    made = threading.RLock()
    _KNOWN.add(made)
    if awaited:
        _AWAITED.append(made)
    return made


IMPORTING = lock(awaited=True)
"""For late imports: a child forked during an import could never finish it."""


def _before() -> None:
    _HELD.extend(each for each in _AWAITED if each.acquire(timeout=PATIENCE))


def _in_parent() -> None:
    while _HELD:
        _HELD.pop().release()


def _in_child() -> None:
    _in_parent()
    for each in list(_KNOWN):
        if each.acquire(blocking=False):
            each.release()
        else:
            each._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
