"""Saving what several processes hold in parts: one of them writes, all fetch the arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from .record import Record

_DONE, _FAILED = -1, -2


@dataclass(frozen=True)
class Together:
    """How the processes of a record save it.

    Attributes
    ----------
    writes : bool
        Whether this is the process that writes the file.
    tell : callable
        Called by all processes at once, returns the number that the one that writes gave.
    """

    writes: bool
    tell: Callable[[int], int]


def written(
    together: Together, records: Mapping[str, Record], put: Callable[[Mapping[str, Record]], None]
) -> None:
    """Write records, or answer the process that does, until it has.

    Parameters
    ----------
    together : Together
        The processes. In each of them, functions in the slots of its records return an array of the
        same parameter when all call them at once; only what they return where the file is written
        counts.
    records : mapping of str to Record
        The records, the same in all processes but for the arrays.
    put : callable
        Writes records.

    Raises
    ------
    RuntimeError
        If the other process could not write; there its own error is raised.
    """
    fetches: list[Callable[[], Any]] = []

    def asking(array: Any) -> Callable[[], Any]:
        fetches.append(array if callable(array) else lambda: array)
        return partial(ask, len(fetches) - 1)

    def ask(number: int) -> Any:
        together.tell(number)
        return fetches[number]()

    asked = {
        name: replace(
            record,
            slots={slot: list(map(asking, arrays)) for slot, arrays in record.slots.items()},
            together=None,
        )
        for name, record in records.items()
    }
    if together.writes:
        end = _FAILED
        try:
            put(asked)
            end = _DONE
        finally:
            together.tell(end)
        return
    while (number := together.tell(0)) >= 0:
        fetches[number]()
    if number == _FAILED:
        raise RuntimeError("the process that writes the file could not; its own error says why")
