"""What makes an optimizer: its rule, and which parameters have which settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from .._typing import Array, Namespace, Scalar
from ..arrays.backend import COMPLEX, COMPUTE
from ..config.groups import OWN, members_of
from ..config.hyper import keeps_numbers
from ..constraints import Constraint
from ..numerics.slots import Layout, Start
from ..rules.cautious import cautious
from ..rules.rule import Rule
from .assignment import Assignment, Part
from .checks import Leaf
from .options import Options


@dataclass
class Fixed:
    """What follows from the hyperparameters of an optimizer and of its groups' alone.

    Attributes
    ----------
    sources : list of dict
        The hyperparameters of each formula; they are replaced, never changed.
    formulas : list of Formula
        The optimizer whose rule holds for each group, the first for parameters in none.
    inner : list of (int, str, Formula)
        The optimizer itself and those of groups: group, prefix of scalar state, formula.
    values : list of dict
        What each group sets, schedules as they are; all hyperparameters for the first.
    schedules : list of list of str
        Which of these are schedules.
    keeping : list of (str, callable)
        Schedules that keep numbers, with what stands before the names of these.
    constraints : list of Constraint or None
        What each group is brought back to.
    frozen : set of int
        Groups that stay as they are.
    each, adaptive : bool
        Whether some gradients are clipped by the norm of each, and by those of their units.
    members : dict
        The number of each path's group, by the paths.
    rounded : dict
        Hyperparameters rounded to a type of arithmetic, by group and type, after the exact ones.
    """

    sources: list[dict[str, Any]]
    formulas: list[Formula]
    inner: list[tuple[int, str, Formula]]
    values: list[dict[str, Any]]
    schedules: list[list[str]]
    keeping: list[tuple[str, Any]]
    constraints: list[Constraint | None]
    frozen: set[int]
    each: bool
    adaptive: bool
    members: dict[tuple[str, ...], list[int]]
    rounded: dict[tuple[int, str], tuple[dict[str, Any], SimpleNamespace]]


class Formula(Options, ABC):
    """The part of `arrayoptim.Optimizer` that a subclass completes."""

    # Without an annotation, which type checkers take for a hyperparameter.
    _known = cast("Fixed | None", None)

    def _set(self, values: dict[str, Any]) -> None:
        super()._set(values)
        if self._hyper["cautious"]:
            for formula in self._fixed().formulas:
                cautious(formula.rule)

    @property
    def rests(self) -> bool:
        """Whether a parameter stays as it is while its gradients have been zero from the start."""
        return True

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
            Its shape. Where the rule is of the kind ``"matrix"`` and the parameter complex, the
            rule is asked for again with ``()``, as for a number by itself.
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

    def scalars_after(self, iterations: int) -> dict[str, float]:
        """Return the scalar state that follows from the count alone, where a file lacks it.

        Parameters
        ----------
        iterations : int
            The number of steps taken with the present hyperparameters.
        """
        return {}

    def initial_slots(self) -> dict[str, Start]:
        """Give what slots begin with: a number, or ``"parameter"``; the others begin with zeros."""
        return {}

    def average(self, h: SimpleNamespace, p: Array, slots: Mapping[str, Array]) -> Array | None:
        """Give the point to evaluate, where the rule keeps one; `averages` asks for it.

        Parameters
        ----------
        h : namespace
            The hyperparameters of the next step.
        p : array
            A parameter, in the type of the arithmetic.
        slots : mapping of str to array
            The rule's slots of that parameter, in that type.
        """
        return None

    # ---- who has what

    def _fixed(self) -> Fixed:
        """Give what follows from the hyperparameters, anew where one was set."""
        known = self._known
        if known is not None and known.sources[0] is self._hyper:
            inner = known.inner[1:]
            if not inner or all(known.sources[k] is formula._hyper for k, _, formula in inner):
                return known
        groups = self._hyper["groups"]
        formulas = [self, *(each.optimizer or self for each in groups)]
        values = [self._hyper]
        for each, formula in zip(groups, formulas[1:], strict=True):
            values.append(each.settings if each.optimizer is None else formula._own_settings())
        numbered = list(enumerate(groups, 1))
        self._known = Fixed(
            sources=[formula._hyper for formula in formulas],
            formulas=formulas,
            inner=[(0, "", self)]
            + [
                (k, f"{k}.", each.optimizer or self)
                for k, each in numbered
                if each.optimizer or (each.settings and self.initial_scalars())
            ],
            values=values,
            schedules=[[name for name, v in row.items() if callable(v)] for row in values],
            keeping=[
                (f"{k}.{name}." if k else f"{name}.", value)
                for k, row in enumerate(values)
                for name, value in row.items()
                if keeps_numbers(value)
            ],
            constraints=[row.get("constraint", values[0]["constraint"]) for row in values],
            frozen={k for k, each in numbered if each.freeze},
            each=any(row.get("clipnorm_per_tensor") is not None for row in values),
            adaptive=any(row.get("agc") is not None for row in values),
            members={},
            rounded={},
        )
        return self._known

    def _own_settings(self) -> dict[str, Any]:
        """Give what this optimizer sets for a group of another one."""
        return {
            name: self._hyper[name]
            for name, declared in self.hyperparameters.items()
            if declared.owner != "Options" or name in OWN
        }

    def _assign(self, leaves: Sequence[Leaf | None], known: Assignment | None = None) -> Assignment:
        """Find settings and slots of each parameter; what is known already where it still holds."""
        h, fixed = self._hyper, self._fixed()
        formulas, kept = fixed.formulas, fixed.constraints
        own = [self._layout(f.rule, c) for f, c in zip(formulas, kept, strict=True)]
        key = h["groups"], h["exclude"], kept, own, tuple(self._initial_scalars())
        if known is not None and known.key == key:
            return known
        paths = [leaf.path if leaf else "" for leaf in leaves]
        members, excluded = self._members(paths), self._excluded(paths)
        layouts: list[Layout | None] = [None] * len(paths)
        found: dict[Layout, list[int]] = {}
        for i, (leaf, member) in enumerate(zip(leaves, members, strict=True)):
            if leaf is not None:
                rule = _rule_of(formulas[member], leaf)
                same = rule is own[member].rule
                layout = own[member] if same else self._layout(rule, kept[member])
                if (constraint := kept[member]) is not None:
                    _require_real(leaf, constraint)
                layouts[i] = layout
                found.setdefault(layout, []).append(i)
        parts = []
        for layout, places in found.items():
            kinds: dict[str, set[int]] = {}
            for i in places:
                if leaf := leaves[i]:
                    kinds.setdefault(COMPUTE[leaf.dtype], set()).add(members[i])
            each = tuple((kind, tuple(sorted(mine))) for kind, mine in sorted(kinds.items()))
            parts.append(Part(layout, tuple(places), each))
        rules = {formula.rule: None for formula in formulas} | {o.rule: None for o in found}
        totals = tuple(dict.fromkeys(name for rule in rules for name in rule.totals))
        return Assignment(key, members, excluded, layouts, parts, totals)

    def _members(self, paths: Sequence[str]) -> list[int]:
        """Give the number of each path's group; patterns are matched once for the same paths."""
        known, key = self._fixed().members, tuple(paths)
        if key not in known:
            known.clear()
            known[key] = members_of(self._hyper["groups"], key)
        return known[key]

    def _initial_scalars(self) -> dict[str, float]:
        """Give the scalar state of this optimizer, of those of its groups, and of schedules."""
        fixed = self._fixed()
        owners = [(prefix, formula) for _, prefix, formula in fixed.inner]
        return {
            prefix + name: value
            for prefix, owner in [*owners, *fixed.keeping]
            for name, value in owner.initial_scalars().items()
        }

    def _thawed(
        self, gradients: Sequence[Array | None], assignment: Assignment
    ) -> Sequence[Array | None]:
        """Take away the gradients of frozen groups."""
        frozen = self._fixed().frozen
        if not frozen:
            return gradients
        pairs = zip(gradients, assignment.members, strict=True)
        return [None if member in frozen else g for g, member in pairs]


def _rule_of(formula: Formula, leaf: Leaf) -> Rule:
    """Give the rule of a parameter: one of numbers by themselves where they are complex."""
    rule = formula.rule_for(leaf.path, leaf.shape)
    if rule.kind == "matrix" and leaf.dtype in COMPLEX:
        rule = formula.rule_for(leaf.path, ())
        if rule.kind == "matrix":
            raise TypeError(
                f"{leaf}: {type(formula).__name__} steps matrices of real numbers; put complex "
                "parameters into a group with another optimizer"
            )
    return rule


def _require_real(leaf: Leaf, constraint: Constraint) -> None:
    if leaf.dtype in COMPLEX:
        raise ValueError(f"{leaf} is complex, and {constraint!r} is for real parameters")
    constraint.require(len(leaf.shape), str(leaf))
