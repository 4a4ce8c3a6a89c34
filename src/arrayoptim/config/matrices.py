"""Hyperparameters for the splitting of matrices and for polynomial iterations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from .groups import matches
from .hyper import Hyper
from .typed import Typed

Parts: TypeAlias = "int | tuple[int, ...]"
"""The number of equal blocks into which outputs are split, or the outputs of each block."""

Splits: TypeAlias = Typed[
    "tuple[tuple[str, Parts], ...]",
    "Mapping[str, int | Sequence[int]] | Sequence[tuple[str, int | Sequence[int]]]",
]

Triple: TypeAlias = "tuple[float, float, float]"

Triples: TypeAlias = Typed[
    "str | tuple[Triple, ...] | None", "str | Sequence[tuple[float, float, float]] | None"
]


class SplitHyper(Hyper):
    """Patterns of paths, with the blocks into which matching matrices are split."""

    @property
    def wanted(self) -> str:
        """Description of the values allowed."""
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
        raise ValueError(f"{what}; numbers of blocks or outputs must be at least 1")
    return value if isinstance(value, int) else tuple(rows)


def sizes_of(splits: Sequence[tuple[str, Parts]], path: str, outputs: int) -> tuple[int, ...]:
    """Return the number of outputs of each block of a matrix; empty if it is not split.

    Parameters
    ----------
    splits : sequence of pair
        Pairs of pattern and parts; the first pattern that matches the path counts.
    path : str
        The path of the parameter.
    outputs : int
        Number of its outputs.

    Raises
    ------
    ValueError
        If the parts do not add up to `outputs`.
    """
    parts = next((parts for pattern, parts in splits if matches(path, pattern)), 1)
    if isinstance(parts, int):
        if outputs % parts:
            raise ValueError(
                f"split: parameter {path!r} has {outputs} outputs, which do not split into {parts} "
                "equal blocks; give the number of outputs of each block"
            )
        parts = (outputs // parts,) * parts
    if sum(parts) != outputs:
        raise ValueError(
            f"split: parameter {path!r} has {outputs} outputs, but the blocks {parts} add up to "
            f"{sum(parts)}; outputs= selects the axis that counts as outputs"
        )
    return parts if len(parts) > 1 else ()


class ScheduleHyper(Hyper):
    """The coefficients of a polynomial, one triple per iteration."""

    @property
    def wanted(self) -> str:
        """Description of the values allowed."""
        return '"polar_express", a sequence of triples of finite numbers, or None'

    def checked(self, value: Any, owner: type[Any]) -> Any:
        """Return a str, a tuple of triples, or None."""
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
