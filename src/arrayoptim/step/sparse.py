"""Sparse gradients: what a step makes of them, and which parameters they are refused for."""

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

INSTEAD = 'use sparse="exact", which steps by the gradient as a dense one'


def in_rows(gradients: Sequence[Any], leaves: Sequence[Array | None]) -> list[Any] | None:
    """Return gradients with the libraries' own sparse ones as `Rows`; None where all are dense."""
    found = list(map(as_rows, gradients, leaves))
    return found if Rows in set(map(type, found)) else None


def made_dense(
    optimizer: Any, gradients: Sequence[Any], leaves: Sequence[Array | None], why: str
) -> list[Any]:
    """Return gradients as arrays, for what cannot hand on rows to an optimizer.

    Raises
    ------
    ValueError
        If one is sparse, and the optimizer is to step rows by themselves.
    """
    found = in_rows(gradients, leaves)
    if found is None:
        return list(gradients)
    if getattr(optimizer, "sparse", None) == "lazy":
        raise ValueError(
            f'found a sparse gradient and sparse="lazy", but {why}, so that every row would be '
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
    """Return gradients as the step takes them: each row once, or with all rows that there are.

    Parameters
    ----------
    plan : Plan
        Settings, and who has which.
    gradients, leaves : sequence
        Gradients, some of them `Rows`, which fit the parameters.
    structure : Structure
        The parameters' structure.
    whole : bool
        Whether the parameters are all here, and no other process has parts of them.

    Raises
    ------
    ValueError
        If a step of the rows alone is asked for where there is none.
    """
    new = list(plan.thawed(gradients))
    lazy = plan.settings.whole["sparse"] == "lazy"
    for i, g in enumerate(new):
        if type(g) is not Rows:
            continue
        layout = plan.assignment.layouts[i]
        assert layout is not None
        reason = _refusal(plan, layout, g) if whole else "other processes have parts of it"
        if lazy and reason is not None:
            raise ValueError(
                f'sparse="lazy" does not serve {named(structure.paths[i])}: {reason}; {INSTEAD}'
            )
        alone = lazy or (reason is None and _rests(plan, layout))
        new[i] = g.summed() if alone else g.dense()
    return new


def _rests(plan: Plan, layout: Layout) -> bool:
    """Whether rows without a gradient stay as they are under a dense one too."""
    if not rests(layout.rule) or layout.storage or set(layout.extras) - {"master"}:
        return False
    members = plan.settings.members
    moved = ("weight_decay", "l2", "constraint")
    return all(m.values.get(name) is None for m in members for name in moved)


def _refusal(plan: Plan, layout: Layout, g: Rows) -> str | None:
    """Say why rows by themselves cannot be stepped as a part of a parameter."""
    h, rule = plan.settings.whole, layout.rule
    if rule.masked:
        return "cautious=True counts the entries of the whole"
    if rule.kind != "elementwise":
        return f"the rule {rule.name} is no loop over elements, it takes the parameter as a whole"
    if layout.constraint is not None:
        return f"{layout.constraint!r} goes by norms of the whole parameter"
    if plan.settings.adaptive:
        return "agc goes by the units of the whole gradient"
    if h["offload"]:
        return "offload=True steps whole parameters in host memory"
    if h["stochastic_rounding"] and h["state_dtype"] is not None:
        return "stochastic_rounding draws its bits for whole parameters"
    if layout.storage == "int8" and g.width % GROUP:
        return (
            f'state_dtype="int8" keeps blocks of {GROUP} entries, which rows of {g.width} cut '
            "through"
        )
    return None
