"""What steps have in common, and the numbers of each: coefficients and stages' numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._typing import Array, Namespace, Scalar
from ..arrays.libraries import COMPUTE, backend_of
from ..config.each import several
from ..engines import Step, limited
from ..numerics.rounding import step_seed
from .assignment import Assignment, Numbers, columns
from .clipping import Measured, clipping
from .formula import Formula
from .pieces import spread
from .quiet import quietly
from .settings import Settings, Values
from .state import Clock, State
from .totals import Measure, Totals, totals

_FLOAT = frozenset({float})


@dataclass(frozen=True, eq=False)
class Plan:
    """What steps share until a hyperparameter is set: settings, and which parameter has which.

    Attributes
    ----------
    settings : Settings
        The hyperparameters.
    assignment : Assignment
        Which settings, rule and slots each parameter has.
    """

    settings: Settings
    assignment: Assignment

    def thawed(self, gradients: Sequence[Array | None]) -> Sequence[Array | None]:
        """Return the gradients, None for those of frozen groups."""
        settings = self.settings
        if not settings.frozen:
            return gradients
        pairs = zip(gradients, self.assignment.members, strict=True)
        return [None if settings.members[k].frozen else g for g, k in pairs]

    def check(self, state: State) -> None:
        """Refuse a state whose slots and numbers differ from what the hyperparameters ask for.

        Raises
        ------
        ValueError
            If one differs.
        """
        advice = "Set them before the first step, or reset()"
        needs = f"with its present hyperparameters {self.settings.formula!r} needs"
        rows = zip(state.leaves, self.assignment.layouts, state.slots, strict=True)
        for leaf, layout, held in rows:
            if leaf is None or layout is None:
                continue
            wanted = layout.slots(leaf.dtype)
            kinds = {name: backend_of(x).dtype(x) for name, x in held.items()}
            if kinds != wanted:
                raise ValueError(
                    f"the state of {leaf} has the slots {_listed(kinds)}; {needs} "
                    f"{_listed(wanted)}. {advice}"
                )
            shapes = layout.shapes(leaf.shape, leaf.dtype) if layout.rule.apart else {}
            shapes = {name: leaf.part(shape) for name, shape in shapes.items()}
            found = {name: tuple(held[name].shape) for name in shapes}
            if found != shapes:
                raise ValueError(
                    f"the state of {leaf} has slots of the shapes {found}; {needs} {shapes}. "
                    f"{advice}"
                )
        initial = self.settings.initial_scalars()
        if set(state.scalars) != set(initial):
            raise ValueError(
                f"the state has the numbers {', '.join(state.scalars) or 'none'}; {needs} "
                f"{', '.join(initial) or 'none'}. {advice}"
            )

    def numbers(
        self, values: Values, state: State, size: Measured, xp: Namespace, measure: Measure
    ) -> tuple[list[Step], dict[str, Scalar]]:
        """Compute everything in a step that does not depend on single arrays.

        Where the numbers depend on totals over all arrays, these are measured first.

        Parameters
        ----------
        values : list of dict
            The hyperparameters of the step, from `Settings.at`.
        state : State
            Its count and scalar state are read.
        size : Measured
            The size of the gradients.
        xp : module
            Array functions: `numpy`, or ``jax.numpy`` while a step is traced.
        measure : callable
            Measures the parameters of a step.

        Returns
        -------
        steps : list of Step
            One for each part of the assignment.
        scalars : dict of str to scalar
            The next scalar state.
        """
        moment = state if state.models is None else state.moment
        wanted = self.assignment.totals
        if not wanted:
            return _numbered(self.settings, self.assignment, values, moment, size, xp, {})
        known = self.settings, self.assignment, values, moment, size, xp
        nothing = dict.fromkeys(range(len(values)), dict.fromkeys(wanted, 0.0))
        steps, _ = _numbered(*known, nothing)
        found = totals(steps, measure, self.assignment.members, xp, self.settings.models)
        return _numbered(*known, {k: {**nothing[k], **found.get(k, {})} for k in nothing})

    def numbers_by_clock(
        self, values: Values, state: State, size: Measured, xp: Namespace
    ) -> tuple[list[Step], list[Clock]]:
        """Compute the numbers of a step whose parameters have different step counts.

        Returns
        -------
        steps : list of Step
            As of `numbers`, with a list where parameters differ.
        clocks : list of Clock
            The clocks as they are when their parameters have stepped.
        """
        known, after = [], []
        for clock in state.clocks:
            steps, scalars = _numbered(self.settings, self.assignment, values, clock, size, xp, {})
            known.append(steps)
            after.append(Clock(clock.iterations + 1, scalars))
        seed = seed_of(self.settings, state.iterations, xp)
        return [
            Step(
                rows[0].layout,
                {
                    compute: columns([row.values[compute] for row in rows], state.clock_of)
                    for compute in rows[0].values
                },
                seed,
                rows[0].places,
            )
            for rows in zip(*known, strict=True)
        ], after

    def limited(
        self,
        steps: Sequence[Step],
        leaves: Sequence[Array | None],
        gradients: Sequence[Array | None],
    ) -> Sequence[Array | None]:
        """Clip gradients adaptively, where `agc` is set."""
        return limited_where_wanted(self.settings, steps, leaves, gradients)


def limited_where_wanted(
    settings: Settings,
    steps: Sequence[Step],
    leaves: Sequence[Array | None],
    gradients: Sequence[Array | None],
) -> Sequence[Array | None]:
    """Clip gradients adaptively, those of the parameters that are there, where that is wanted."""
    if not settings.adaptive:
        return gradients
    numbers = {
        i: step.numbers(COMPUTE[backend_of(leaves[i]).dtype(leaves[i])], i)
        for step in steps
        for i in step.places
        if leaves[i] is not None
    }
    return limited(numbers, settings.whole["agc_units"], leaves, gradients)


def _numbered(
    settings: Settings,
    assignment: Assignment,
    values: Values,
    state: State | Clock,
    size: Measured,
    xp: Namespace,
    totals: Totals,
) -> tuple[list[Step], dict[str, Scalar]]:
    """Compute the numbers of a step, given the totals that each formula needs.

    For each compute dtype the hyperparameters are rounded to it first, and only then
    combined, in double precision: so 1 - beta is the complement of the beta that an array is
    multiplied by, and the weights of a moving average add up to 1 in float32 too.
    """
    it = state.iterations if xp is np else _number(state.iterations, xp)
    exact, members = settings.effective(values, it), settings.members
    # Schedules' scalars stay: they change when a metric is fed, see `Settings.observed`.
    scalars = dict(state.scalars)
    held: list[dict[str, Scalar]] = [{}] * len(members)
    if scalars:
        held = [_scalars_of(scalars, member.owner or "") for member in members]
    if totals:
        held = [{**own, **totals[k]} for k, own in enumerate(held)]
    for k, member in enumerate(members) if scalars else ():
        if member.owner is not None:
            wanted = member.formula.initial_scalars()
            found = _computed(member.formula, exact[k], it, held[k], xp)
            _require_all(found, wanted, member.formula, "its scalar state")
            scalars |= {member.owner + name: found[name] for name in wanted}
    seed = seed_of(settings, max(it) if several(it) else it, xp) if settings.by_chance else None
    steps = []
    for part in assignment.parts:
        rule, values_of = part.layout.rule, {}
        for compute, mine in part.kinds:
            tables = {}
            for k in mine:
                h, member = settings.rounded(k, exact[k], compute, xp), members[k]
                formula = member.formula
                table: Any = _computed(formula, h, it, held[k], xp)
                if not rule.given_names <= table.keys():
                    _require_all(table, rule.given, formula, f"the rule {rule.name}")
                words = formula.words_for(rule)
                h = {**h, **{name: h[word] for name, word in words.items()}} if words else h
                stages = stage_numbers(member.decays, h, size, xp)
                tables[k] = {**table, **stages} if stages else table
                if settings.models is not None:
                    tables[k] = spread(tables[k], len(assignment.members))
            values_of[compute] = assignment.merged(tables)
        steps.append(Step(part.layout, values_of, seed, part.places))
    return steps, scalars


def stage_numbers(decays: bool, h: Mapping[str, Any], size: Measured, xp: Namespace) -> Numbers:
    """Return the numbers that the stages need, by the names of `arrayoptim.rules.stages.STAGES`.

    There are none where a stage is not used, as decay by a rule that decays by itself.
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
    """Return the seed of a step whose slots are rounded stochastically; None for others.

    Raises
    ------
    ValueError
        If the step is traced.
    """
    if not settings.by_chance:
        return None
    if xp is not np:
        raise ValueError("stochastic rounding does not serve a compiled step")
    return step_seed(settings.whole["seed"], iterations)


def _computed(
    formula: Formula,
    h: Mapping[str, Any],
    it: Scalar,
    held: Mapping[str, Scalar],
    xp: Namespace,
) -> dict[str, Scalar]:
    """Return the coefficients of a formula and its next scalar state."""
    # A new namespace, so that a class may modify it.
    try:
        found: Any = quietly(formula.coefficients, SimpleNamespace(**h), it, held, xp)
    except (OverflowError, ZeroDivisionError) as error:
        numbers = ", ".join(f"{k}={v}" for k, v in h.items() if type(v) is float)
        raise ValueError(
            f"{type(formula).__name__}: found {numbers}, which have no finite coefficients at step "
            f"{it} ({error}); wanted numbers that are less extreme"
        ) from error
    if type(found) is not dict and not isinstance(found, Mapping):
        raise TypeError(
            f"{type(formula).__name__}.coefficients: found {found!r}, wanted a dict of the rule's "
            "coefficients by name"
        )
    if xp is np and not _FLOAT.issuperset(map(type, found.values())):
        return {name: v if several(v) else float(v) for name, v in found.items()}
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
    """Return the scalar state of one formula, by its own names."""
    return {k.removeprefix(prefix): v for k, v in scalars.items() if k.startswith(prefix)}


def _number(iterations: Scalar, xp: Namespace) -> Scalar:
    """Return the count in the dtype of traced numbers, as TensorFlow does not mix dtypes."""
    return xp.asarray(iterations, dtype=xp.asarray(0.0).dtype)


def _listed(slots: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in slots.items()) or "none"
