"""Writing the per-step scalars in one call of machine code."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from .calls import CALLS, bound, calls, entry
from .source import CELLS, Program
from .tables import cells

_LOAD = f"""
def kernel(self, arguments):
    {{entry}}
    calls = peek(record, 0)
    job = peek(record, 1)
    row = peek(record, 2)
    count = peek(record, 3)
    names = peek(record, 4) + 24
    given = peek(arguments, 0)
    good = peek(given, 1) == peek(calls, {CALLS["dict"]})
    if good:
        good = ask1(peek(calls, {CALLS["size"]}), given) == count
    for k in range(count):
        if good:
            number = ask2(peek(calls, {CALLS["get"]}), given, peek(names, k))
            good = number != 0
            if good:
                good = peek(number, 1) == peek(calls, {CALLS["float"]})
            if good:
                poke(row, peek(record, 5 + k), peek(number, 2))
    if good:
        poke(job, {CELLS["claimed"]}, 0)
        poke(job, {CELLS["behind"]}, 0)
    return ask1(peek(calls, {CALLS["long"]}), good)
"""


def loader(names: tuple[str, ...], wanted: tuple[str, ...], row: Any, job: Any) -> Any:
    """Return a Python function that writes numbers into the row of a job, and opens the job.

    Parameters
    ----------
    names : tuple of str
        The keys of the dicts that it takes; the caller keeps this tuple, and `row` and `job`.
    wanted : tuple of str
        Those whose numbers are wanted, in order.
    row, job : ctypes array
        The target of the numbers, with room for one more; and the job.

    Returns
    -------
    callable or None
        A function of a dict. It returns 0, without opening the job, for a dict with other keys or
        with a value that is not a float. None if machine code cannot read floats.
    """
    if not _floats_as_expected():
        return None
    # Unused numbers go behind the row.
    places = [wanted.index(name) if name in wanted else len(wanted) for name in names]
    addresses = ctypes.addressof(job), ctypes.addressof(row)
    record = cells(calls(), *addresses, len(names), id(names), *places)
    function: Callable[[Mapping[str, Any]], int] = bound(_program(), record)
    return function


@cache
def _program() -> Program:
    return Program(_LOAD.format(entry=entry()), (), (), "float64", answers=True)


@cache
def _floats_as_expected() -> bool:
    """Whether float values, dict types and tuple items lie where machine code expects them."""
    if (object.__basicsize__, tuple.__basicsize__, float.__basicsize__) != (16, 24, 24):
        return False
    number, pair = 0.1, ("a", "b")
    words = (ctypes.c_int64 * 2).from_address(id(number))
    items = (ctypes.c_int64 * 2).from_address(id(pair) + 24)
    value = ctypes.c_double.from_address(id(number) + 16).value
    return words[1] == id(float) and value == number and list(items) == [*map(id, pair)]
