"""Comparing what a dict of dicts holds, by identity, in one call of machine code."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

from .calls import CALLS, bound, calls, entry
from .readers import objects_as_expected
from .serving import compiler_refusal
from .source import Program
from .tables import cells

# Of the int that PyDict_Next returns, the upper half of the register is arbitrary.
_COMPARE = f"""
def kernel(self, arguments):
    {{entry}}
    calls = peek(record, 0)
    next = peek(calls, {CALLS["next"]})
    room = peek(record, 1)
    given = peek(arguments, 0)
    rows = peek(arguments, 1)
    values = peek(arguments, 2)
    row = 0
    place = 0
    same = 1
    poke(room, 0, 0)
    while same and ask4(next, given, room, 0, room + 8) & 0xFFFFFFFF:
        inner = peek(room, 1)
        same = row < peek(rows, 2)
        same = same and inner == peek(rows, 3 + row)
        poke(room, 2, 0)
        while same and ask4(next, inner, room + 16, 0, room + 24) & 0xFFFFFFFF:
            same = place < peek(values, 2)
            same = same and peek(room, 3) == peek(values, 3 + place)
            place += 1
        row += 1
    same = same and row == peek(rows, 2)
    same = same and place == peek(values, 2)
    return ask1(peek(calls, {CALLS["long"]}), same)
"""


def comparison() -> Callable[..., int] | None:
    """Return a function that compares what a dict of dicts holds with what it held.

    Returns
    -------
    callable or None
        A function of the dict, of a tuple of the dicts that were its values, and of a tuple of
        the values of these, one dict after another. It returns whether all are the very same.
        None if there is no machine code here.
    """
    if compiler_refusal() or not objects_as_expected() or tuple.__basicsize__ != 24:
        return None
    return bound(_program(), cells(calls(), ctypes.addressof(_ROOM)))


_ROOM = cells(*[0] * 4)


@cache
def _program() -> Program:
    return Program(_COMPARE.format(entry=entry()), (), (), "float64", answers=True)
