"""What makes an optimizer: its rule, and the numbers of one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from ._assignment import Assignment, Numbers, Part
from ._backend import COMPLEX, COMPUTE
from ._checks import Leaf
from ._groups import OWN
from ._hyper import keeps_numbers
from ._options import Options
from ._rounding import step_seed
from ._rule import Rule
from ._state import State
from ._storage import Layout, Start
from ._typing import Array, Namespace, Scalar
from .engines import Prepared, Step
from .gradients import global_norm


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
    frozen : set of int
        Groups that stay as they are.
    rounded : dict
        Hyperparameters rounded to a type of arithmetic, by group and type, after the exact ones.
    """

    sources: list[dict[str, Any]]
    formulas: list[Formula]
    inner: list[tuple[int, str, Formula]]
    values: list[dict[str, Any]]
    schedules: list[list[str]]
    keeping: list[tuple[str, Any]]
    frozen: set[int]
    rounded: dict[tuple[int, str], tuple[dict[str, Any], dict[str, Any]]]


class Formula(Options, ABC):
    """The part of `arrayoptim.Optimizer` that a subclass completes, and that computes a step."""

    _known: Fixed | None = None

    rests: ClassVar[bool] = True
    """Whether a parameter stays as it is while its gradients have been zero from the start."""

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
            frozen={k for k, each in numbered if each.freeze},
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
        h, formulas = self._hyper, self._fixed().formulas
        own = [self._layout(formula.rule) for formula in formulas]
        key = h["groups"], h["exclude"], own, tuple(self._initial_scalars())
        if known is not None and known.key == key:
            return known
        paths = [leaf.path if leaf else "" for leaf in leaves]
        members, excluded = self._members(paths), self._excluded(paths)
        layouts: list[Layout | None] = [None] * len(paths)
        found: dict[Layout, list[int]] = {}
        for i, (leaf, member) in enumerate(zip(leaves, members, strict=True)):
            if leaf is not None:
                rule = _rule_of(formulas[member], leaf)
                layout = own[member] if rule is own[member].rule else self._layout(rule)
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
        return Assignment(key, members, excluded, layouts, parts)

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

    # ---- one step

    def _norm(
        self,
        values: dict[str, Any],
        gradients: Sequence[Array | None],
        prepared: Prepared | None = None,
        unscale: float = 1.0,
    ) -> Scalar | None:
        """Give the global norm of the gradients where a stage of the step needs it."""
        if values["clipnorm"] is None and values["nonfinite"] == "ignore":
            return None
        if prepared is None:
            return global_norm(gradients)
        # Whether to go on, and the true size of scaled gradients, are for the host to say.
        stays = values["nonfinite"] == "ignore" and unscale == 1.0
        pending = prepared.norm(gradients) if stays else None
        return global_norm(gradients, prepared.squares(gradients)) if pending is None else pending

    def _refuses(self, norm: Scalar, iterations: int) -> bool:
        if self.nonfinite == "ignore" or np.isfinite(float(norm)):
            return False
        if self.nonfinite == "raise":
            raise ValueError(
                f"{self.name or type(self).__name__}: a gradient has a NaN or infinite entry at "
                f"step {iterations}; nothing has changed"
            )
        return True

    def _values(self, state: State) -> list[dict[str, Any]]:
        """Give the hyperparameters of a step, and what each group sets, schedules as numbers."""
        fixed, found = self._fixed(), []
        rows = zip(fixed.formulas, fixed.values, fixed.schedules, strict=True)
        for k, (formula, values, schedules) in enumerate(rows):
            declared, prefix = formula.hyperparameters, f"{k}." if k else ""
            now = {
                name: declared[name].at(values[name], state.iterations, state.scalars, prefix)
                for name in schedules
            }
            found.append(values | now if now else values)
        return found

    def _observed(self, scalars: Mapping[str, Scalar], metric: Scalar) -> dict[str, Scalar]:
        """Give the scalar state after a metric was fed to the schedules that take one."""
        keeping = self._fixed().keeping
        if not keeping:
            raise ValueError(
                f"{self!r} has no schedule that is fed a metric, such as schedules.Plateau"
            )
        new = dict(scalars)
        for prefix, schedule in keeping:
            own = {name: scalars[prefix + name] for name in schedule.initial_scalars()}
            new |= {prefix + name: v for name, v in schedule.observed(own, metric).items()}
        return new

    def _steps(
        self,
        values: list[dict[str, Any]],
        state: State,
        assignment: Assignment,
        norm: Scalar | None,
        xp: Namespace,
        unscale: float = 1.0,
    ) -> tuple[list[Step], dict[str, Scalar]]:
        """Compute everything of a step that does not depend on the single array.

        The gradients, and their norm, come to their true size when multiplied by `unscale`.

        For each type of arithmetic the hyperparameters are rounded to it first, and only then
        combined, in double precision: so 1 - beta is the complement of the beta that an array is
        multiplied with, and the weights of a moving average add up to 1 in float32 too.
        """
        it = _number(state.iterations, xp)
        exact = [_decayed(values[0], own, it) for own in values]
        # Those of schedules stay: they change when a metric comes, see `_observed`.
        scalars = dict(state.scalars)
        inner = self._fixed().inner
        for member, prefix, formula in inner if state.scalars else ():
            found = self._computed(member, prefix, exact[member], it, state.scalars, xp)
            scalars |= {prefix + name: found[name] for name in formula.initial_scalars()}
        prefixes = {member: prefix for member, prefix, _ in inner}

        def table(member: int, compute: str) -> Numbers:
            h = self._rounded(exact[member], member, compute, xp)
            prefix = prefixes.get(member, "")
            found = self._computed(member, prefix, h, it, state.scalars, xp)
            rule = self._fixed().formulas[member].rule
            return found | self._stage_values(rule, SimpleNamespace(**h), norm, xp, unscale)

        seed = self._step_seed(state.iterations, xp)
        steps = []
        for part in assignment.parts:
            numbers = {
                compute: assignment.merged({member: table(member, compute) for member in members})
                for compute, members in part.kinds
            }
            steps.append(Step(part.layout, numbers, seed, part.places))
        return steps, scalars

    def _rounded(
        self, exact: dict[str, Any], member: int, compute: str, xp: Namespace
    ) -> dict[str, Any]:
        """Give hyperparameters rounded to a type of arithmetic."""
        fixed = self._fixed()
        known = fixed.rounded.get((member, compute)) if xp is np else None
        if known is not None and known[0] == exact:
            return known[1]
        declared = {**self.hyperparameters, **fixed.formulas[member].hyperparameters}
        h = {name: declared[name].rounded(v, compute, xp) for name, v in exact.items()}
        if xp is np:
            fixed.rounded[member, compute] = exact, h
        return h

    def _computed(
        self,
        member: int,
        prefix: str,
        h: dict[str, Any],
        it: Scalar,
        held: Mapping[str, Scalar],
        xp: Namespace,
    ) -> dict[str, Scalar]:
        """Give the coefficients of a formula and its next scalar state."""
        formula = self._fixed().formulas[member]
        if prefix:
            held = {k.removeprefix(prefix): v for k, v in held.items() if k.startswith(prefix)}
        with np.errstate(all="ignore"):
            found = formula.coefficients(SimpleNamespace(**h), it, held, xp)
        return {k: float(v) for k, v in found.items()} if xp is np else dict(found)

    def _step_seed(self, iterations: Scalar, xp: Namespace) -> int | None:
        if not self._hyper["stochastic_rounding"] or self._hyper["state_dtype"] is None:
            return None
        if xp is not np:
            raise ValueError("stochastic rounding does not serve a compiled step")
        return step_seed(self.seed, iterations)


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


def _number(iterations: Scalar, xp: Namespace) -> Scalar:
    """Give the count in the type of traced numbers, as TensorFlow does not mix types."""
    return iterations if xp is np else xp.asarray(iterations, dtype=xp.asarray(0.0).dtype)


def _decayed(values: dict[str, Any], own: dict[str, Any], iterations: Scalar) -> dict[str, Any]:
    """Give the hyperparameters of a group, the learning rate decayed."""
    values = values if own is values else values | own
    if values.get("decay") is None:
        return values
    return values | {"lr": values["lr"] / (1.0 + values["decay"] * iterations)}
