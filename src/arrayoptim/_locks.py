"""Locks that are free in a forked child.

A child has one thread, that which forked. What another thread held at that moment nobody in the
child would ever release.
"""

from __future__ import annotations

# Its hooks first: what is registered later is called earlier, and a fork that held the lock of
# `logging` already would wait in vain for a thread whose imports need it.
import logging  # noqa: F401
import os
import threading
from typing import Any, TypeAlias
from weakref import WeakSet

Lock: TypeAlias = Any
"""What `lock` returns."""

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
        Whether a fork waits until no other thread holds it, for `PATIENCE` at most: where that
        which it guards does not survive in pieces, as a compiler. Such a lock is never forgotten.
    """
    made = threading.RLock()
    _KNOWN.add(made)
    if awaited:
        _AWAITED.append(made)
    return made


IMPORTING = lock(awaited=True)
"""For what is imported late: a child forked in the midst of an import could never finish it."""


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
