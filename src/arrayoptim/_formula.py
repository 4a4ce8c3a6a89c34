"""What makes an optimizer: its rule, and the numbers of one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from ._backend import COMPUTE
from ._checks import Leaf
from ._groups import OWN
from ._options import Options
from ._rounding import step_seed
from ._rule import Rule
from ._state import State
from ._storage import Layout, Start
from ._typing import Array, Namespace, Scalar
from .engines import Prepared, Step
from .gradients import global_norm

Numbers = dict[str, Scalar | list[Scalar]]

NEUTRAL = {"scale": 1.0, "bound": float("inf"), "l2": 0.0, "amount": 0.0}
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
    kinds : tuple of (int, str)
        Each of their groups with a type of arithmetic that occurs in it.
    """

    layout: Layout
    places: tuple[int, ...]
    kinds: tuple[tuple[int, str], ...]


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
        Whether decay leaves it alone.
    layouts : list of Layout or None
        Its rule and slots; None for None.
    parts : list of Part
        The parameters by their layouts.
    """

    key: tuple[Any, ...]
    members: list[int]
    excluded: list[bool]
    layouts: list[Layout | None]
    parts: list[Part]


class Formula(Options, ABC):
    """The part of `arrayoptim.Optimizer` that a subclass completes, and that computes a step."""

    @property
    @abstractmethod
    def rule(self) -> Rule:
        """The update rule."""

    def rule_for(self, path: str, shape: tuple[int, ...]) -> Rule:
        """Give the rule of one parameter, where it depends on that.

        Parameters
        ----------
        path : str
            The parameter's path.
        shape : tuple of int
            Its shape.
        """
        return self.rule

    @abstractmethod
    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the rule's coefficients for one step.

        Parameters
        ----------
        h : namespace
            The hyperparameters of this step; schedules are numbers here, and ``h.lr`` is decayed.
        it : int
            Steps taken before this one.
        scalars : mapping
            Scalar state, see `initial_scalars`.
        xp : module
            Array functions for scalars: `numpy`, or ``jax.numpy`` while a step is traced.

        Returns
        -------
        dict
            Each coefficient of the rule by name, and the next value of each scalar state.
        """

    def initial_scalars(self) -> dict[str, float]:
        """Give the state that is one number, by name, as it is before the first step."""
        return {}

    def initial_slots(self) -> dict[str, Start]:
        """Give what slots begin with: a number, or ``"parameter"``; the others begin with zeros."""
        return {}

    # ---- who has what

    def _formulas(self) -> list[Formula]:
        """Give the optimizer whose rule holds for each group, the first for those in none."""
        return [self, *(each.optimizer or self for each in self.groups)]

    def _assign(self, leaves: Sequence[Leaf | None], known: Assignment | None = None) -> Assignment:
        """Find settings and slots of each parameter; what is known already where it still holds."""
        formulas = self._formulas()
        own = [self._layout(formula.rule) for formula in formulas]
        key = self.groups, self.exclude, own, tuple(self._initial_scalars())
        if known is not None and known.key == key:
            return known
        paths = [leaf.path if leaf else "" for leaf in leaves]
        members, excluded = self._members(paths), self._excluded(paths)
        layouts: list[Layout | None] = [None] * len(paths)
        found: dict[Layout, list[int]] = {}
        for i, (leaf, member) in enumerate(zip(leaves, members, strict=True)):
            if leaf is not None:
                rule = formulas[member].rule_for(leaf.path, leaf.shape)
                layout = own[member] if rule is own[member].rule else self._layout(rule)
                layouts[i] = layout
                found.setdefault(layout, []).append(i)
        parts = []
        for layout, places in found.items():
            kinds = {(members[i], COMPUTE[leaf.dtype]) for i in places if (leaf := leaves[i])}
            parts.append(Part(layout, tuple(places), tuple(sorted(kinds))))
        return Assignment(key, members, excluded, layouts, parts)

    def _inner(self) -> list[tuple[int, str, Formula]]:
        """Give this optimizer and those of its groups: group, prefix of scalar state, formula."""
        inner = [(k, f"{k}.", each.optimizer) for k, each in enumerate(self.groups, 1)]
        return [(0, "", self), *(row for row in inner if row[2] is not None)]

    def _initial_scalars(self) -> dict[str, float]:
        """Give the scalar state of this optimizer and of those of its groups."""
        return {
            prefix + name: value
            for _, prefix, formula in self._inner()
            for name, value in formula.initial_scalars().items()
        }

    def _thawed(
        self, gradients: Sequence[Array | None], assignment: Assignment
    ) -> Sequence[Array | None]:
        """Take away the gradients of frozen groups."""
        frozen = {k for k, each in enumerate(self.groups, 1) if each.freeze}
        if not frozen:
            return gradients
        pairs = zip(gradients, assignment.members, strict=True)
        return [None if member in frozen else g for g, member in pairs]

    # ---- one step

    def _norm(
        self,
        values: dict[str, Any],
        gradients: Sequence[Array | None],
        prepared: Prepared | None = None,
    ) -> Scalar | None:
        """Give the global norm of the gradients where a stage of the step needs it."""
        if values["clipnorm"] is None and self.nonfinite == "ignore":
            return None
        return global_norm(gradients, prepared.squares(gradients) if prepared else {})

    def _refuses(self, norm: Scalar, iterations: int) -> bool:
        if self.nonfinite == "ignore" or np.isfinite(float(norm)):
            return False
        if self.nonfinite == "raise":
            raise ValueError(
                f"{self.name or type(self).__name__}: a gradient has a NaN or infinite entry at "
                f"step {iterations}; nothing has changed"
            )
        return True

    def _settings(self) -> list[dict[str, Any]]:
        """Give what each group sets, schedules as they are."""
        return [
            dict(each.settings) if each.optimizer is None else each.optimizer._own_settings()
            for each in self.groups
        ]

    def _own_settings(self) -> dict[str, Any]:
        """Give what this optimizer sets for a group of another one."""
        return {
            name: self._hyper[name]
            for name, declared in self.hyperparameters.items()
            if declared.owner != "Options" or name in OWN
        }

    def _values(self) -> dict[str, Any]:
        """Give the hyperparameters of the next step, with what groups set as a list of dicts."""
        values = {name: getattr(self, name) for name in self.hyperparameters}
        if not self.groups:
            return values
        it = self.iterations
        groups = [
            {
                name: formula.hyperparameters[name].at(value, it) if callable(value) else value
                for name, value in settings.items()
            }
            for formula, settings in zip(self._formulas()[1:], self._settings(), strict=True)
        ]
        return values | {"groups": groups}

    @property
    def iterations(self) -> int:
        """Steps taken."""
        raise NotImplementedError

    def _steps(
        self,
        values: dict[str, Any],
        state: State,
        assignment: Assignment,
        norm: Scalar | None,
        xp: Namespace,
    ) -> tuple[list[Step], dict[str, Scalar]]:
        """Compute everything of a step that does not depend on the single array.

        For each type of arithmetic the hyperparameters are rounded to it first, and only then
        combined, in double precision: so 1 - beta is the complement of the beta that an array is
        multiplied with, and the weights of a moving average add up to 1 in float32 too.
        """
        formulas = self._formulas()
        groups = values["groups"]
        variants = [_decayed(values | own, state.iterations) for own in ({}, *groups)]
        prefixes = {k: prefix for k, prefix, _ in self._inner()}

        def computed(member: int, h: dict[str, Any]) -> tuple[Numbers, dict[str, Scalar]]:
            formula, prefix = formulas[member], prefixes.get(member, "")
            names = formula.initial_scalars()
            held = {name: state.scalars[prefix + name] for name in names}
            with np.errstate(all="ignore"):
                found = formula.coefficients(SimpleNamespace(**h), state.iterations, held, xp)
            found = {k: float(v) for k, v in found.items()} if xp is np else dict(found)
            return found, {prefix + name: found.pop(name) for name in names}

        def table(member: int, compute: str) -> Numbers:
            declared = {**self.hyperparameters, **formulas[member].hyperparameters}
            h = {k: declared[k].rounded(v, compute, xp) for k, v in variants[member].items()}
            return computed(member, h)[0] | self._stage_values(SimpleNamespace(**h), norm, xp)

        scalars: dict[str, Scalar] = {}
        for member in prefixes if state.scalars else ():
            scalars |= computed(member, variants[member])[1]
        seed = self._step_seed(state.iterations, xp)
        steps = []
        for part in assignment.parts:
            numbers: dict[str, Numbers] = {}
            for compute in sorted({compute for _, compute in part.kinds}):
                tables = {m: table(m, compute) for m, kind in part.kinds if kind == compute}
                numbers[compute] = _merged(tables, assignment)
            steps.append(Step(part.layout, numbers, seed, part.places))
        return steps, scalars

    def _step_seed(self, iterations: Scalar, xp: Namespace) -> int | None:
        if not self.stochastic_rounding or self.state_dtype is None:
            return None
        if xp is not np:
            raise ValueError("stochastic rounding does not serve a compiled step")
        return step_seed(self.seed, iterations)


def _decayed(values: dict[str, Any], iterations: Scalar) -> dict[str, Any]:
    if "decay" not in values:
        return values
    return values | {"lr": values["lr"] / (1.0 + values["decay"] * iterations)}


def _merged(tables: dict[int, Numbers], assignment: Assignment) -> Numbers:
    """Give one table for the parameters of several groups, with a list where groups differ."""
    first = next(iter(tables.values()))
    merged = dict(first)
    if len(tables) > 1:
        for name in {name: None for table in tables.values() for name in table}:
            column = {k: table.get(name, NEUTRAL.get(name)) for k, table in tables.items()}
            usual = next(iter(column.values()))
            same = all(isinstance(v, float) and v == usual for v in column.values())
            merged[name] = usual if same else [column.get(k, usual) for k in assignment.members]
    if any(assignment.excluded):
        for name in set(merged) & {"l2", "amount"}:
            value, count = merged[name], len(assignment.members)
            row = value if isinstance(value, list) else [value] * count
            merged[name] = [
                0.0 if out else v for v, out in zip(row, assignment.excluded, strict=True)
            ]
    return merged
