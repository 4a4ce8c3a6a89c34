"""Sparse gradients: conversion for a step, and for which parameters they are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._typing import Array
from ..arrays.rows import Rows, as_rows, dense
from ..arrays.trees import Structure, named
from ..numerics.rounding import GROUP
from ..numerics.slots import Layout
from ..rules.resting import rests
from .plan import Plan

INSTEAD = 'use sparse="exact", which treats the gradient as a dense one'


def in_rows(gradients: Sequence[Any], leaves: Sequence[Array | None]) -> list[Any] | None:
    """Return gradients with libraries' sparse arrays as `Rows`; None if all are dense."""
    found = list(map(as_rows, gradients, leaves))
    return found if Rows in set(map(type, found)) else None


def made_dense(
    optimizer: Any, gradients: Sequence[Any], leaves: Sequence[Array | None], why: str
) -> list[Any]:
    """Return gradients as dense arrays, for callers that cannot pass rows to an optimizer.

    Raises
    ------
    ValueError
        If a gradient is sparse and the optimizer has ``sparse="lazy"``.
    """
    found = in_rows(gradients, leaves)
    if found is None:
        return list(gradients)
    if getattr(optimizer, "sparse", None) == "lazy":
        raise ValueError(
            f'found a sparse gradient and sparse="lazy", but {why}, so every row would be '
            "stepped; " + INSTEAD
        )
    return dense(found, leaves)


def settled(
    plan: Plan,
    gradients: Sequence[Any],
    leaves: Sequence[Array | None],
    structure: Structure,
    whole: bool = True,
) -> list[Any]:
    """Return gradients with unique rows for a lazy step, or with all rows for an exact one.

    Parameters
    ----------
    plan : Plan
        Settings and their assignment to parameters.
    gradients, leaves : sequence
        Gradients, some of them `Rows`, already checked to fit the parameters.
    structure : Structure
        The parameters' structure.
    whole : bool
        Whether no parameter is sharded over processes.

    Raises
    ------
    ValueError
        If ``sparse="lazy"`` is not possible for a parameter with a sparse gradient.
    """
    new = list(plan.thawed(gradients))
    lazy = plan.settings.whole["sparse"] == "lazy"
    for i, g in enumerate(new):
        if type(g) is not Rows:
            continue
        layout = plan.assignment.layouts[i]
        assert layout is not None
        reason = _refusal(plan, layout, g) if whole else "it is sharded over processes"
        if lazy and reason is not None:
            raise ValueError(
                f'sparse="lazy" does not support {named(structure.paths[i])}: {reason}; {INSTEAD}'
            )
        alone = lazy or (reason is None and _rests(plan, layout))
        new[i] = g.summed() if alone else g.dense()
    return new


def _rests(plan: Plan, layout: Layout) -> bool:
    """Whether a dense gradient would not change rows whose gradient is zero either."""
    if not rests(layout.rule) or layout.storage or set(layout.extras) - {"master"}:
        return False
    members = plan.settings.members
    moved = ("weight_decay", "l2", "constraint")
    return all(m.values.get(name) is None for m in members for name in moved)


def _refusal(plan: Plan, layout: Layout, g: Rows) -> str | None:
    """Return why single rows of a parameter cannot be stepped; None if they can."""
    h, rule = plan.settings.whole, layout.rule
    if rule.masked:
        return "cautious=True counts entries of the whole parameter"
    if rule.kind != "elementwise":
        return f"the rule {rule.name} is not elementwise: it needs the whole parameter"
    if layout.constraint is not None:
        return f"{layout.constraint!r} depends on norms of the whole parameter"
    if plan.settings.adaptive:
        return "agc depends on units of the whole gradient"
    if h["offload"]:
        return "offload=True steps whole parameters in host memory"
    if h["stochastic_rounding"] and h["state_dtype"] is not None:
        return "stochastic_rounding draws random bits for whole parameters"
    if layout.storage == "int8" and g.width % GROUP:
        return (
            f'state_dtype="int8" uses blocks of {GROUP} entries, and rows of {g.width} would cut '
            "through them"
        )
    return None
