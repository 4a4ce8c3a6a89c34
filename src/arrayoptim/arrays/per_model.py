"""Arrays whose first axis counts models, as the sequence of the arrays of single models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .libraries import backend_of


class Pieces(Sequence[Any]):
    """Views of the parts of arrays along their first axis, made when they are first asked for.

    Parameters
    ----------
    wholes : sequence of array or None
        The arrays, all with a first axis of one length.
    models : int
        This length. None stands for so many times None.

    Attributes
    ----------
    wholes : tuple of array or None
        The arrays.
    """

    def __init__(self, wholes: Sequence[Any], models: int) -> None:
        self.wholes, self.models = tuple(wholes), models
        self._views: list[Any] | None = None

    @property
    def views(self) -> list[Any]:
        """The parts, those of one array after those of another."""
        if self._views is None:
            found: list[Any] = []
            for x in self.wholes:
                found += [None] * self.models if x is None else backend_of(x).along_first(x)
            self._views = found
        return self._views

    def __len__(self) -> int:
        return len(self.wholes) * self.models

    def __getitem__(self, place: Any) -> Any:
        return self.views[place]
