"""Totals over all parameters that the per-step scalars depend on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._typing import Namespace, Scalar
from ..config.per_model import row
from ..engines import Step
from ..gradients import scaled_norm

__all__ = ["Measure", "Totals", "totals"]

Measure = Callable[[Step], Mapping[int, Sequence[Scalar]]]
"""Returns the totals of each parameter with a gradient, by index."""

Totals = Mapping[int, Mapping[str, Scalar]]
"""Totals by name, for each parameter group by index."""


def totals(
    steps: Sequence[Step],
    measure: Measure,
    members: Sequence[int],
    xp: Namespace,
    models: int | None = None,
) -> Totals:
    """Return the totals named by `Rule.totals` over all parameters of each group.

    Parameters
    ----------
    steps : sequence of Step
        The step, computed as if all totals were 0: what `measure` reads does not depend on them.
    measure : callable
        Computes the totals of each parameter in one of the steps.
    members : sequence of int
        The index of each parameter's group.
    xp : module
        Array functions: `numpy`, or ``jax.numpy`` while a step is traced.
    models : int, optional
        Number of models; totals are then rows with one entry per model.
    """
    columns: dict[tuple[int, str, bool, int], list[Scalar]] = {}
    for step in steps:
        rule = step.layout.rule
        for place, values in measure(step).items() if rule.totals else ():
            for name, value in zip(rule.totals, values, strict=True):
                key = members[place], name, name in rule.norms, place % (models or 1)
                columns.setdefault(key, []).append(value)
    zeros, found = row([0.0] * (models or 1)), dict[int, dict[str, Any]]()
    for (member, name, norm, model), column in columns.items():
        whole = _together(column, norm, xp)
        if models is None:
            found.setdefault(member, {})[name] = whole
        else:
            found.setdefault(member, {}).setdefault(name, zeros.copy())[model] = whole
    return found


def _together(column: Sequence[Scalar], norm: bool, xp: Namespace) -> Scalar:
    if xp is not np:
        whole = xp.stack(column)
        return scaled_norm(whole, xp) if norm else xp.sum(whole)
    total = 0.0
    for value in map(float, column):
        # A loop, because the built-in sum compensates rounding errors from Python 3.12 on.
        total += value * value if norm else value
    return math.sqrt(total) if norm else total
