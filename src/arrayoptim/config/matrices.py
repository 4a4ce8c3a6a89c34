"""Hyperparameters that say how matrices are cut and by which polynomials they are stepped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from .groups import matches
from .hyper import Hyper
from .typed import Typed

Parts: TypeAlias = "int | tuple[int, ...]"
"""Into how many equal blocks the outputs are cut, or how many outputs each block has."""

Splits: TypeAlias = Typed[
    "tuple[tuple[str, Parts], ...]",
    "Mapping[str, int | Sequence[int]] | Sequence[tuple[str, int | Sequence[int]]]",
]

Triple: TypeAlias = "tuple[float, float, float]"

Triples: TypeAlias = Typed[
    "str | tuple[Triple, ...] | None", "str | Sequence[tuple[float, float, float]] | None"
]


class SplitHyper(Hyper):
    """Patterns of paths, with the blocks into which matrices there are cut."""

    @property
    def wanted(self) -> str:
        """The values allowed, in words."""
        return 'a dict such as {"*qkv*": 3} or {"*qkv*": (64, 16, 16)}'

    def checked(self, value: Any, owner: type[Any]) -> tuple[tuple[str, Parts], ...]:
        """Return pairs of pattern and parts."""
        rows = list(value.items()) if isinstance(value, Mapping) else value
        what = f"{owner.__name__}.{self.name} must be {self.wanted}, got {value!r}"
        if not isinstance(rows, list | tuple):
            raise TypeError(what)
        found = []
        for row in rows:
            if not isinstance(row, list | tuple) or len(row) != 2 or not isinstance(row[0], str):
                raise TypeError(what)
            found.append((row[0], _parts(row[1], what)))
        return tuple(found)


def _parts(value: Any, what: str) -> Parts:
    rows = [value] if isinstance(value, int) else value
    if not isinstance(rows, list | tuple) or not all(type(n) is int for n in rows):
        raise TypeError(what)
    if not rows or min(rows) < 1:
        raise ValueError(f"{what}; a number of blocks or outputs is at least 1")
    return value if isinstance(value, int) else tuple(rows)


def sizes_of(splits: Sequence[tuple[str, Parts]], path: str, outputs: int) -> tuple[int, ...]:
    """Return how many outputs each block of a matrix has; nothing where it is not cut.

    Parameters
    ----------
    splits : sequence of pair
        Patterns of paths, the first that matches counts, and parts.
    path : str
        The path of the parameter.
    outputs : int
        How many outputs it has.

    Raises
    ------
    ValueError
        If the parts do not add up to the outputs.
    """
    parts = next((parts for pattern, parts in splits if matches(path, pattern)), 1)
    if isinstance(parts, int):
        if outputs % parts:
            raise ValueError(
                f"split: parameter {path!r} has {outputs} outputs, which {parts} equal blocks do "
                "not make up; give the number of outputs of each block"
            )
        parts = (outputs // parts,) * parts
    if sum(parts) != outputs:
        raise ValueError(
            f"split: parameter {path!r} has {outputs} outputs, and the blocks {parts} have "
            f"{sum(parts)}; see outputs= for which axis counts them"
        )
    return parts if len(parts) > 1 else ()


class ScheduleHyper(Hyper):
    """A polynomial's factors, one triple for each iteration."""

    @property
    def wanted(self) -> str:
        """The values allowed, in words."""
        return '"polar_express", a sequence of triples of finite numbers, or None'

    def checked(self, value: Any, owner: type[Any]) -> Any:
        """Return a word, a tuple of triples, or None."""
        what = f"{owner.__name__}.{self.name} must be {self.wanted}, got {value!r}"
        if value is None or value == "polar_express":
            return value
        if isinstance(value, str):
            raise ValueError(what)
        if not isinstance(value, list | tuple):
            raise TypeError(what)
        triples = tuple(_triple(row, what) for row in value)
        if not triples:
            raise ValueError(what)
        return triples


def _triple(row: Any, what: str) -> Triple:
    try:
        a, b, c = map(float, row)
    except (TypeError, ValueError):
        raise TypeError(what) from None
    if not all(map(math.isfinite, (a, b, c))):
        raise ValueError(what)
    return a, b, c
