"""The last step's arrays, remembered so that equal ones need no checks one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._typing import Array
from ...arrays.identity import same_objects

if TYPE_CHECKING:
    from .arrays import Library
    from .walks import Walk

__all__ = ["KEPT", "Glance"]

KEPT = 1 << 23
"""Most bytes of gradients to keep alive until the next step, to compare identities."""


class Glance:
    """The arrays of the last step, and their facts.

    Parameters
    ----------
    library : Library
        The library of the arrays.
    number : int
        Their CUDA device index.

    Attributes
    ----------
    now : numpy.ndarray of int64
        The addresses of the arrays last passed to `keep` or `same`.
    moved : bool
        Whether one of these addresses differs from the time before.
    """

    def __init__(self, library: Library, number: int) -> None:
        self._library, self._number = library, number
        self.now, self.moved = np.zeros(0, np.int64), True
        self.forget()

    def forget(self) -> None:
        """Forget everything."""
        self._walk: Walk | None = None
        self._facts: list[Any] | None = None
        self._kept: Sequence[Array | None] = ()
        self._at: list[int] = []
        self._holds = False

    def keep(self, arrays: Sequence[Array | None], size: int) -> None:
        """Remember arrays that need no further check.

        Parameters
        ----------
        arrays : sequence of array or None
            The arrays.
        size : int
            Their size in bytes.
        """
        self._walk, self.moved = self._library.walk(arrays, self._number), True
        if self._walk is not None:
            self.now = self._walk.found
            return
        self._facts, self._holds = self._library.facts(arrays), size <= KEPT
        self._take(arrays, self._library.places(arrays))

    def _take(self, arrays: Sequence[Array | None], places: list[int]) -> None:
        self.moved = places != self._at
        if self.moved:
            self._at, self.now = places, np.array(places, np.int64)
        if self._holds:
            self._kept = arrays

    def same(self, arrays: Sequence[Array | None]) -> bool:
        """Whether arrays equal the remembered ones in all but their addresses; sets `now`.

        Parameters
        ----------
        arrays : sequence of array or None
            As many arrays.
        """
        library, walk = self._library, self._walk
        if walk is not None:
            alike = walk.read(tuple(arrays))
            self.moved = walk.moved
            return alike
        if self._kept and same_objects(arrays, self._kept):
            places = self._at if library.fixed else library.places(arrays)
            if places == self._at:
                self.moved = False
                return True
        if self._facts is None or library.facts(arrays) != self._facts:
            return False
        self._take(arrays, library.places(arrays))
        return True
