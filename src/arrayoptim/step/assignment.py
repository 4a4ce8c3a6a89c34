"""Which settings, rule and slots each parameter of a tree has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._typing import Scalar
from ..numerics.slots import Layout

Numbers = dict[str, Scalar | list[Scalar]]

NEUTRAL = {
    "scale": 1.0,
    "bound": float("inf"),
    "units": 0.0,
    "l2": 0.0,
    "amount": 0.0,
    "floor": float("-inf"),
    "ceiling": float("inf"),
}
"""The numbers of stages that do nothing, for parameters whose group does not want them."""


@dataclass(frozen=True)
class Part:
    """Parameters with the same rule and slots.

    Attributes
    ----------
    layout : Layout
        Rule and slots.
    places : tuple of int
        Their places among all parameters.
    kinds : tuple of (str, tuple of int)
        Each type of arithmetic that occurs, and the groups in which it does.
    """

    layout: Layout
    places: tuple[int, ...]
    kinds: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Assignment:
    """Which settings and which slots each parameter of a tree has.

    Attributes
    ----------
    key : tuple
        What it was made from.
    members : list of int
        The number of each parameter's group, counted from 1; 0 for none.
    excluded : list of bool
        Whether decay leaves it alone; empty where it leaves none alone.
    layouts : list of Layout or None
        Its rule and slots; None for None.
    parts : list of Part
        The parameters by their layouts.
    totals : tuple of str
        What their rules measure of all parameters together.
    """

    key: tuple[Any, ...]
    members: list[int]
    excluded: list[bool]
    layouts: list[Layout | None]
    parts: list[Part]
    totals: tuple[str, ...]

    def merged(self, tables: dict[int, Numbers]) -> Numbers:
        """Give one table for the parameters of several groups, with a list where they differ.

        Parameters
        ----------
        tables : dict of int to dict
            The numbers of each group.
        """
        merged = dict(next(iter(tables.values())))
        if len(tables) > 1:
            for name in {name: None for table in tables.values() for name in table}:
                merged[name] = self._column(
                    {k: table.get(name, NEUTRAL.get(name)) for k, table in tables.items()}
                )
        if self.excluded:
            for name in merged.keys() & {"l2", "amount", "wd"}:
                value = merged[name]
                row = value if isinstance(value, list) else [value] * len(self.excluded)
                merged[name] = [
                    0.0 if out else v for v, out in zip(row, self.excluded, strict=True)
                ]
        return merged

    def _column(self, values: dict[int, Any]) -> Scalar | list[Scalar]:
        usual = next(iter(values.values()))
        if all(isinstance(v, float) and v == usual for v in values.values()):
            return usual
        row = [values.get(k, usual) for k in self.members]
        return [v[i] if isinstance(v, list) else v for i, v in enumerate(row)]
