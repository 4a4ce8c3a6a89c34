"""Comparing many objects by identity: tensors cannot be compared with ``==``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from ctypes import c_void_p, sizeof, string_at
from operator import is_
from typing import Any

__all__ = ["same_objects"]

_MANY = 100
_FIRST, _EACH = tuple.__basicsize__, sizeof(c_void_p)
"""Where the addresses of a tuple's items begin in its memory, and the size of each."""


def same_objects(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Return whether two sequences hold the very same objects, in the same order."""
    count = len(some)
    if count != len(others):
        return False
    # Reading the addresses of a thousand takes a tenth of the time of comparing them one by one.
    if count < _MANY or not _READABLE:
        return all(map(is_, some, others))
    one, other, size = tuple(some), tuple(others), _EACH * count
    return string_at(id(one) + _FIRST, size) == string_at(id(other) + _FIRST, size)


def _are_readable() -> bool:
    if sys.implementation.name != "cpython":
        return False
    items = object(), object(), None
    wanted = bytes((c_void_p * len(items))(*map(id, items)))
    return string_at(id(items) + _FIRST, _EACH * len(items)) == wanted


_READABLE = _are_readable()
