"""What a step must know of all parameters together before its numbers can be computed."""

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
"""Returns the totals of each parameter in a step that has a gradient, by its place."""

Totals = Mapping[int, Mapping[str, Scalar]]
"""Totals by name, of each group of parameters by its number."""


def totals(
    steps: Sequence[Step],
    measure: Measure,
    members: Sequence[int],
    xp: Namespace,
    models: int | None = None,
) -> Totals:
    """Take the totals of `Rule.totals` over all parameters of each group.

    Parameters
    ----------
    steps : sequence of Step
        The step, computed as if all totals were 0: what a measure takes does not depend on them.
    measure : callable
        Measures the parameters of one of them.
    members : sequence of int
        The number of each parameter's group.
    xp : module
        Array functions: `numpy`, or ``jax.numpy`` while a step is traced.
    models : int, optional
        Number of models; there are totals for each of them then, as a row.
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
        # One after another: the built-in sum compensates from Python 3.12 on.
        total += value * value if norm else value
    return math.sqrt(total) if norm else total
