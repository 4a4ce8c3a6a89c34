"""Arrays whose first axis counts models, as a sequence of each model's arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .libraries import backend_of


class Pieces(Sequence[Any]):
    """Views of arrays' subarrays along the first axis, made on first access.

    Parameters
    ----------
    wholes : sequence of array or None
        The arrays, whose first axes have equal lengths.
    models : int
        That length. A leaf that is None yields this many times None.

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
        """The views, array by array."""
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
