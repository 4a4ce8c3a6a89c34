"""What a dict of dicts holds, remembered to notice a change of any value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache
from itertools import chain
from typing import Any

from ..arrays.identity import same_objects

__all__ = ["Contents"]


class Contents:
    """The values of the dicts that a dict holds.

    Parameters
    ----------
    given : mapping of dict
        The dict.
    """

    def __init__(self, given: Mapping[Any, dict[Any, Any]]) -> None:
        self._rows = tuple(given.values())
        self._values = self._held()
        dicts = self._rows and {*map(type, self._rows)} == {dict}
        self._compare = _comparison() if dicts else None

    def _held(self) -> tuple[Any, ...]:
        return tuple(chain.from_iterable(map(dict.values, self._rows)))

    def same(self, given: Mapping[Any, dict[Any, Any]]) -> bool:
        """Return whether a dict holds the very same dicts, and these the very same values."""
        if self._compare is not None and type(given) in (dict, defaultdict):
            return bool(self._compare(given, self._rows, self._values))
        rows = tuple(given.values())
        return same_objects(rows, self._rows) and same_objects(self._held(), self._values)


@cache
def _comparison() -> Callable[..., int] | None:
    """Return the comparison in machine code; None if there is none here."""
    try:
        from .cpu.contents import comparison

        return comparison()
    except (ImportError, RuntimeError):
        # The CPU engine may be missing from the installation, or its compiler not work here.
        return None
