"""Assignment of settings, rule and slots to each parameter of a tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._typing import Scalar
from ..arrays.backend import COMPLEX, COMPUTE
from ..constraints import Constraint
from ..engines import OWN
from ..numerics.slots import Layout
from ..rules.rule import Rule
from ..rules.stages import NEUTRAL
from .checks import Leaf
from .formula import Formula
from .settings import Settings

Numbers = dict[str, Scalar | Sequence[Scalar]]


@dataclass(frozen=True)
class Part:
    """Parameters with the same rule and slots.

    Attributes
    ----------
    layout : Layout
        The rule and slots of these parameters.
    places : tuple of int
        Their indices among all parameters.
    kinds : tuple of (str, tuple of int)
        Each compute dtype among them, with the groups in which it occurs.
    """

    layout: Layout
    places: tuple[int, ...]
    kinds: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Assignment:
    """The settings and slots of each parameter of a tree.

    Attributes
    ----------
    key : tuple
        The values that determine this assignment.
    members : list of int
        The group of each parameter, counted from 1; 0 if it is in none.
    excluded : list of bool
        Whether each parameter is exempt from decay; empty if none is.
    layouts : list of Layout or None
        The rule and slots of each parameter; None for a leaf that is None.
    parts : list of Part
        The parameters, grouped by layout.
    totals : tuple of str
        Names of the totals over all parameters that their rules need.
    """

    key: tuple[Any, ...]
    members: list[int]
    excluded: list[bool]
    layouts: list[Layout | None]
    parts: list[Part]
    totals: tuple[str, ...]

    def merged(self, tables: dict[int, Numbers]) -> Numbers:
        """Return one table for the parameters of several groups, with lists for values that differ.

        Parameters
        ----------
        tables : dict of int to dict
            The coefficients and stage scalars of each group.
        """
        merged = dict(next(iter(tables.values())))
        if len(tables) > 1:
            # A formula may compute more than the coefficients of the common rule; skip those.
            known = [name for name in merged if all(name in table for table in tables.values())]
            stages = {name: None for table in tables.values() for name in table if name in NEUTRAL}
            merged = {}
            for name in dict.fromkeys([*known, *stages]):
                merged[name] = _column(
                    {k: table.get(name, NEUTRAL.get(name)) for k, table in tables.items()},
                    self.members,
                )
        if self.excluded:
            for name in merged.keys() & {"l2", "amount", "taken", "wd"}:
                value = merged[name]
                row = value if isinstance(value, OWN) else [value] * len(self.excluded)
                merged[name] = [
                    0.0 if out else v for v, out in zip(row, self.excluded, strict=True)
                ]
        return merged


def columns(tables: Sequence[Numbers], owners: Sequence[int]) -> Numbers:
    """Return one table for parameters with different tables, with lists for values that differ.

    Parameters
    ----------
    tables : sequence of dict
        Tables with the same keys.
    owners : sequence of int
        The index of each parameter's table.
    """
    first = tables[0]
    if len(tables) == 1:
        return first
    return {name: _column({k: t[name] for k, t in enumerate(tables)}, owners) for name in first}


def _column(values: Mapping[int, Any], owners: Sequence[int]) -> Scalar | Sequence[Scalar]:
    usual = next(iter(values.values()))
    if all(isinstance(v, float) and v == usual for v in values.values()):
        return usual
    row = [values.get(k, usual) for k in owners]
    return [v[i] if isinstance(v, OWN) else v for i, v in enumerate(row)]


def assign(
    settings: Settings, leaves: Sequence[Leaf | None], known: Assignment | None = None
) -> Assignment:
    """Return the settings and slots of each parameter; `known` itself if it is still valid.

    Raises
    ------
    TypeError, ValueError
        If a parameter has a dtype or shape that its rule or constraint does not support, or a
        pattern matches no path.
    """
    formulas = [member.formula for member in settings.members]
    kept = [member.constraint for member in settings.members]
    settings.require_sound()
    h = settings.whole
    spares = [bool((h | member.values)["cautious_decay"]) for member in settings.members]
    given = list(zip(kept, spares, strict=True))
    own = [settings.layout(f.rule, *each) for f, each in zip(formulas, given, strict=True)]
    key = h["groups"], h["exclude"], kept, own, tuple(settings.initial_scalars())
    if known is not None and known.key == key:
        return known
    paths = [leaf.name if leaf else "" for leaf in leaves]
    members, excluded = settings.members_of(paths), settings.excluded(paths)
    layouts: list[Layout | None] = [None] * len(paths)
    found: dict[Layout, list[int]] = {}
    for i, (leaf, member) in enumerate(zip(leaves, members, strict=True)):
        if leaf is not None:
            rule = _rule_of(formulas[member], leaf)
            same = rule is own[member].rule
            layout = own[member] if same else settings.layout(rule, *given[member])
            if (constraint := kept[member]) is not None:
                _require_real(leaf, constraint)
            layouts[i] = layout
            found.setdefault(layout, []).append(i)
    parts = [
        Part(layout, tuple(places), _kinds(leaves, members, places))
        for layout, places in found.items()
    ]
    rules = {formula.rule: None for formula in formulas} | {o.rule: None for o in found}
    totals = tuple(dict.fromkeys(name for rule in rules for name in rule.totals))
    return Assignment(key, members, excluded, layouts, parts, totals)


def _kinds(
    leaves: Sequence[Leaf | None], members: Sequence[int], places: Sequence[int]
) -> tuple[tuple[str, tuple[int, ...]], ...]:
    kinds: dict[str, set[int]] = {}
    for i in places:
        if leaf := leaves[i]:
            kinds.setdefault(COMPUTE[leaf.dtype], set()).add(members[i])
    return tuple((kind, tuple(sorted(mine))) for kind, mine in sorted(kinds.items()))


def _rule_of(formula: Formula, leaf: Leaf) -> Rule:
    """Return the rule of a parameter; a complex one gets the rule for scalars, not for matrices."""
    rule = formula.rule_for(leaf.name, leaf.shape)
    if rule.kind == "matrix" and leaf.dtype in COMPLEX:
        rule = formula.rule_for(leaf.name, ())
        if rule.kind == "matrix":
            raise TypeError(
                f"{leaf}: {type(formula).__name__} steps real matrices only; put complex "
                "parameters into a group with another optimizer"
            )
    return rule


def _require_real(leaf: Leaf, constraint: Constraint) -> None:
    if leaf.dtype in COMPLEX:
        raise ValueError(f"{leaf} is complex, and {constraint!r} is supports real parameters only")
    constraint.require(len(leaf.shape), str(leaf))
