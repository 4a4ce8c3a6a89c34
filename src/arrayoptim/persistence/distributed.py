"""Saving state that is sharded over processes: one writes, all gather the arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from .record import Record

_DONE, _FAILED = -1, -2


@dataclass(frozen=True)
class Together:
    """How the processes of a sharded record save it.

    Attributes
    ----------
    writes : bool
        Whether this process writes the file.
    tell : callable
        Collective: returns the number passed by the writing process.
    """

    writes: bool
    tell: Callable[[int], int]


def written(
    together: Together, records: Mapping[str, Record], put: Callable[[Mapping[str, Record]], None]
) -> None:
    """Write records, or serve the process that writes them until it is done.

    Parameters
    ----------
    together : Together
        The processes. Functions in the slots of the records are collective: they return an array of
        the same parameter when all processes call them; only the result on the writing process is
        used.
    records : mapping of str to Record
        The records, equal on all processes except for the arrays.
    put : callable
        Writes records.

    Raises
    ------
    RuntimeError
        If the writing process failed; it raises its own error.
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
