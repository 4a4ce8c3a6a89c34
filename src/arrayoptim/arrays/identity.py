"""Comparing many objects by identity: tensors cannot be compared with ``==``."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from operator import is_
from typing import Any

__all__ = ["same_objects"]

_MANY = 100


def same_objects(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Return whether two sequences hold the very same objects, in the same order."""
    if len(some) != len(others):
        return False
    # Reading the addresses of a thousand takes a tenth of the time of comparing them one by one.
    if len(some) < _MANY or not _READABLE:
        return all(map(is_, some, others))
    return _addresses(tuple(some)) == _addresses(tuple(others))


def _addresses(items: tuple[Any, ...]) -> bytes:
    """Return the addresses of a tuple's items, which its memory ends with."""
    return ctypes.string_at(id(items) + tuple.__basicsize__, tuple.__itemsize__ * len(items))


def _are_readable() -> bool:
    if sys.implementation.name != "cpython":
        return False
    items = object(), object(), None
    return _addresses(items) == bytes((ctypes.c_void_p * len(items))(*map(id, items)))


_READABLE = _are_readable()
