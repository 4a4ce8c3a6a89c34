"""Facts about the arrays of the last step, so that they need not be queried one by one."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import TYPE_CHECKING, Any

from ..._typing import Array

if TYPE_CHECKING:
    from .arrays import Library

__all__ = ["KEPT", "Glance"]

KEPT = 1 << 23
"""Bytes of gradients up to which they are kept until the next step, to compare identities."""


class Glance:
    """The arrays of the last step, and the facts about them.

    Parameters
    ----------
    library : Library
        Whose arrays they are.

    Attributes
    ----------
    now : list of int
        Where the arrays are that `same` was asked about last.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self.now: list[int] = []
        self.forget()

    def forget(self) -> None:
        """Forget everything."""
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
            Their bytes.
        """
        self._facts, self._holds = self._library.facts(arrays), size <= KEPT
        self.now = self._library.places(arrays)
        self._hold(arrays)

    def _hold(self, arrays: Sequence[Array | None]) -> None:
        if self._holds:
            self._kept, self._at = arrays, self.now

    def same(self, arrays: Sequence[Array | None]) -> bool:
        """Whether arrays equal the remembered ones in all but their addresses; see `now`.

        Parameters
        ----------
        arrays : sequence of array or None
            As many arrays.
        """
        library = self._library
        if self._kept and all(map(is_, arrays, self._kept)):
            self.now = self._at if library.fixed else library.places(arrays)
            if self.now == self._at:
                return True
        if self._facts is None or library.facts(arrays) != self._facts:
            return False
        self.now = library.places(arrays)
        self._hold(arrays)
        return True
