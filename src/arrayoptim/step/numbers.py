"""The numbers of one step: coefficients of rules, and the numbers of stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._typing import Namespace, Scalar
from ..config.each import several
from ..engines import Step
from ..numerics.rounding import step_seed
from .assignment import Assignment, Numbers
from .clipping import Measured, clipping
from .formula import Formula
from .pieces import spread
from .quiet import quietly
from .settings import Settings, Values
from .state import Clock, State
from .totals import Totals

_FLOAT = frozenset({float})


def numbered(
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
