"""The per-step scalars: coefficients of rules, and scalars of stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._typing import Namespace, Scalar
from ..config.per_model import several
from ..engines import Step
from ..numerics.formulas import FORMULAS, Number, symbolic
from ..numerics.recalled import Recalled
from ..numerics.rounding import step_seed
from ..rules.rule import Rule
from .assignment import Assignment, Numbers, Part
from .clipping import Measured, clipping
from .formula import Formula
from .per_model import spread
from .quiet import quietly
from .settings import Settings, Values
from .state import Clock, State
from .totals import Totals

_FLOAT = frozenset({float})
_OF_HOST = np, FORMULAS


class Table:
    """Computes the per-step scalars of the parameters with one group, rule and compute dtype.

    Parameters
    ----------
    settings : Settings
        All hyperparameters.
    member : int
        The index of the group.
    rule : Rule
        The rule.
    compute : str
        The compute dtype, to which hyperparameters are rounded.
    count : int
        Number of parameters in the tree, to expand per-model scalars to per-parameter lists.
    """

    def __init__(
        self, settings: Settings, member: int, rule: Rule, compute: str, count: int
    ) -> None:
        self._settings, self._member, self._rule = settings, settings.members[member], rule
        self._place, self._compute, self._count = member, compute, count
        self._of_models = settings.models is not None
        self._known: tuple[Any, Any, dict[str, Any], Numbers] = None, None, {}, {}
        self._recalled = Recalled()

    def numbers(
        self,
        exact: list[dict[str, Any]],
        it: Scalar,
        held: Sequence[dict[str, Scalar]],
        size: Measured,
        xp: Namespace,
    ) -> Numbers:
        """Return the coefficients of the rule and the scalars of the stages, by name."""
        place, rule, formula = self._place, self._rule, self._member.reference()
        assert formula is not None
        given = exact[place]
        of, measured, h, stages = self._known
        if of is not given or measured is not size:
            h = self._settings.rounded(place, given, self._compute, xp)
            words = formula.words_for(rule)
            own = {**h, **{name: h[word] for name, word in words.items()}} if words else h
            stages = stage_numbers(self._member.decays, own, size, xp)
            # Tracers and device scalars must not be cached.
            if xp is np and size.norm is None and size.norms is None:
                self._known = given, size, h, stages
        given = held[place]
        table: Any = _recalled(self._recalled, formula, h, it, given, xp)
        if not rule.given_names <= table.keys():
            _require_all(table, rule.given, formula, f"the rule {rule.name}")
        if stages:
            table = {**table, **stages}
        return spread(table, self._count) if self._of_models else table


class Numbering:
    """Computes per-step scalars from hyperparameters, state and gradient norms.

    Parameters
    ----------
    settings : Settings
        The hyperparameters.
    assignment : Assignment
        The settings of each parameter.

    Attributes
    ----------
    decides : bool
        Whether a formula is known to branch in Python on numbers that a device might keep.
    """

    def __init__(self, settings: Settings, assignment: Assignment) -> None:
        self.decides = False
        self._recalled = [Recalled() for _ in settings.members]
        self._settings, self._merged = settings, assignment.merged
        self._held: list[dict[str, Scalar]] = [{}] * len(settings.members)
        self._parts: list[tuple[Part, list[tuple[str, Table | None, dict[int, Table]]]]] = []
        count = len(assignment.members)
        for part in assignment.parts:
            kinds: list[tuple[str, Table | None, dict[int, Table]]] = []
            for kind, mine in part.kinds:
                tables = {k: Table(settings, k, part.layout.rule, kind, count) for k in mine}
                alone = len(mine) == 1 and not assignment.excluded
                kinds.append((kind, tables[mine[0]] if alone else None, tables))
            self._parts.append((part, kinds))

    def at(
        self,
        values: Values,
        state: State | Clock,
        size: Measured,
        xp: Namespace,
        totals: Totals | None = None,
    ) -> tuple[list[Step], dict[str, Scalar]]:
        """Compute the per-step scalars, given the totals that each formula needs.

        Hyperparameters are rounded to each compute dtype before they are combined in double
        precision. So 1 - beta is the complement of the beta that arrays are multiplied by, and
        the weights of a moving average add up to 1 in float32 too.

        Parameters
        ----------
        values : list of dict
            The hyperparameters of the step, from `Settings.at`.
        state : State or Clock
            Its count and scalar state are read.
        size : Measured
            The norms of the gradients.
        xp : module
            Array functions: `numpy`, or ``jax.numpy`` while a step is traced.
        totals : mapping, optional
            Totals over all parameters of a group that formulas need.

        Returns
        -------
        steps : list of Step
            One per part of the assignment.
        scalars : dict of str to scalar
            The next scalar state.
        """
        settings = self._settings
        it = state.iterations if xp is np else _number(state.iterations, xp)
        exact = settings.lasting if values is settings.fixed else None
        if exact is None:
            exact = settings.effective(values, it)
        held, scalars = self._held, dict(state.scalars)
        if scalars or totals:
            held, scalars = self._scalars(exact, it, scalars, totals or {}, xp)
        seed = seed_of(settings, max(it) if several(it) else it, xp) if settings.by_chance else None
        steps = []
        for part, kinds in self._parts:
            values_of = {}
            for compute, alone, tables in kinds:
                if alone is not None:
                    values_of[compute] = alone.numbers(exact, it, held, size, xp)
                else:
                    rows = {k: t.numbers(exact, it, held, size, xp) for k, t in tables.items()}
                    values_of[compute] = self._merged(rows)
            steps.append(Step(part.layout, values_of, seed, part.places))
        return steps, scalars

    def _scalars(
        self,
        exact: list[dict[str, Any]],
        it: Scalar,
        before: dict[str, Scalar],
        totals: Totals,
        xp: Namespace,
    ) -> tuple[list[dict[str, Scalar]], dict[str, Scalar]]:
        """Return the scalar state and totals passed to each formula, and the next scalar state."""
        # The state of schedules changes only with a metric, see `Settings.observed`.
        members, scalars = self._settings.members, before
        held = [_scalars_of(scalars, member.owner or "") for member in members]
        if totals:
            held = [{**own, **totals[k]} for k, own in enumerate(held)]
        for k, member in enumerate(members) if scalars else ():
            if member.owner is not None:
                wanted = member.formula.initial_scalars()
                found = _recalled(self._recalled[k], member.formula, exact[k], it, held[k], xp)
                _require_all(found, wanted, member.formula, "its scalar state")
                scalars = scalars | {member.owner + name: found[name] for name in wanted}
        return held, scalars


def stage_numbers(decays: bool, h: Mapping[str, Any], size: Measured, xp: Namespace) -> Numbers:
    """Return the scalars that the stages need, by the names of `arrayoptim.rules.stages.STAGES`.

    A stage that is not used has none, such as decay for a rule that decays by itself.
    """
    values = clipping(h, size, xp)
    if h["ema_momentum"] is not None:
        values |= {"keep": h["ema_momentum"], "new": 1.0 - h["ema_momentum"]}
    if h["l2"] is not None:
        values["l2"] = h["l2"]
    if h["weight_decay"] is not None and not decays:
        values["taken" if h["cautious_decay"] else "amount"] = h["lr"] * h["weight_decay"]
    constraint = h["constraint"]
    if constraint is not None and constraint.limits:
        values["floor"], values["ceiling"] = constraint.limits
    return values


def seed_of(settings: Settings, iterations: Scalar, xp: Namespace) -> int | None:
    """Return the seed of a step with stochastic rounding; None for other steps.

    Raises
    ------
    ValueError
        If the step is being traced.
    """
    if not settings.by_chance:
        return None
    if xp is not np:
        raise ValueError("stochastic rounding does not support compiled steps")
    return step_seed(settings.whole["seed"], iterations)


def _recalled(
    known: Recalled, formula: Any, h: Any, it: Any, held: Mapping[str, Scalar], xp: Namespace
) -> dict[str, Any]:
    """Compute what a formula says, or recall it where the host knows it by symbols only."""
    if xp is np and held and symbolic(held.values()):
        return known.of(partial(_computed, formula, h, held=held, xp=FORMULAS), h, it, held)
    return _computed(formula, h, it, held, xp)


def _computed(
    formula: Formula,
    h: Mapping[str, Any],
    it: Scalar,
    held: Mapping[str, Scalar],
    xp: Namespace,
) -> dict[str, Scalar]:
    """Return the coefficients of a formula and its next scalar state."""
    # A new namespace, as `coefficients` may modify it. Keyword arguments would take twice as long.
    space = SimpleNamespace()
    space.__dict__.update(h)
    try:
        found: Any = quietly(formula.coefficients, space, it, held, xp)
    except (OverflowError, ZeroDivisionError) as error:
        if formula._unbounded and float in map(type, h.values()):
            # What arrays would hold: infinity, or NaN.
            number = np.float64 if xp is np else xp.asarray
            as_arrays = {k: number(v) if type(v) is float else v for k, v in h.items()}
            kept = {k: np.float64(v) for k, v in held.items()} if xp is np else held
            return _computed(formula, as_arrays, np.int64(it) if xp is np else it, kept, xp)
        numbers = ", ".join(f"{k}={v}" for k, v in h.items() if type(v) is float)
        raise ValueError(
            f"{type(formula).__name__}: found {numbers}, with which the coefficients at step "
            f"{it} are not finite ({error}); wanted less extreme numbers"
        ) from error
    if type(found) is not dict and not isinstance(found, Mapping):
        raise TypeError(
            f"{type(formula).__name__}.coefficients: found {found!r}, wanted a dict of the rule's "
            "coefficients by name"
        )
    if xp in _OF_HOST and not _FLOAT.issuperset(map(type, found.values())):
        return {k: v if several(v) or type(v) is Number else float(v) for k, v in found.items()}
    known: dict[str, Scalar] = found if type(found) is dict else dict(found)
    return known


def _require_all(
    found: Mapping[str, Any], wanted: Iterable[str], formula: Formula, what: str
) -> None:
    """Raise an error that names the first missing coefficient."""
    for name in wanted:
        if name not in found:
            raise ValueError(
                f"{type(formula).__name__}.coefficients: found {', '.join(found) or 'none'}, "
                f"wanted {name!r} too, for {what}"
            )


def _scalars_of(scalars: Mapping[str, Scalar], prefix: str) -> dict[str, Scalar]:
    """Return the scalar state of one formula, by unprefixed name."""
    return {k.removeprefix(prefix): v for k, v in scalars.items() if k.startswith(prefix)}


def _number(iterations: Scalar, xp: Namespace) -> Scalar:
    """Return the count in the dtype of traced scalars, as TensorFlow does not promote dtypes."""
    return xp.asarray(iterations, dtype=xp.asarray(0.0).dtype)
