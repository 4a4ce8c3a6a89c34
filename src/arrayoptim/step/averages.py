"""Averaged parameters: of the EMA stage, or as defined by a rule."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Array, Tree
from ..arrays.backend import COMPUTE
from ..arrays.libraries import COMPLEX, backend_of
from ..arrays.trees import Structure
from ..engines import back
from ..numerics.slots import Layout
from ..rules import stages
from .executors import beside_state
from .formula import Formula
from .plan import Plan
from .settings import Values
from .state import State
from .take import Leaves


def averages_of(
    plan: Plan, state: State, values: Values, leaves: Leaves, structure: Structure
) -> Tree:
    """Return the averaged parameters for a state and the hyperparameters of a step.

    Raises
    ------
    ValueError
        If neither the EMA stage nor a rule keeps an average.
    """
    members, assignment = plan.settings.members, plan.assignment
    beside = beside_state(leaves, plan.settings.whole["offload"])
    rows = zip(assignment.members, assignment.layouts, beside, state.slots, strict=True)
    found: list[Array | None] = [
        _average(members[k].formula, SimpleNamespace(**values[0] | values[k]), layout, p, slots)
        if p is not None and layout is not None
        else None
        for k, layout, p, slots in rows
    ]
    if all(x is None for x in found) and any(p is not None for p in leaves):
        raise ValueError(
            f"there are no averages: ema_momentum is None, and "
            f"{type(plan.settings.formula).__name__} keeps none by itself"
        )
    pairs = zip(leaves, found, strict=True)
    return structure.build(
        [None if p is None else copy_as(p if x is None else x, p) for p, x in pairs]
    )


def _average(
    formula: Formula, h: SimpleNamespace, layout: Layout, p: Array, slots: Mapping[str, Array]
) -> Array | None:
    if "average" in slots:
        return slots["average"]
    backend = backend_of(p)
    stored = backend.dtype(p)
    kind = stored if stored in COMPLEX else COMPUTE[stored]
    with backend.guard(p):
        x = backend.cast(p, kind)
        if "master" in slots:
            rounded = backend.cast(backend.cast(slots["master"], stored), kind)
            x = stages.heal(x, slots["master"], rounded, backend.xp)
        held = {name: backend.cast(layout.load(slots, name), kind) for name in layout.rule.slots}
        found = formula.average(h, x, held)
        return None if found is None else backend.array(found)


def copy_as(x: Array, like: Array) -> Array:
    """Return a copy of an array with the dtype and device of another."""
    backend = backend_of(x)
    with backend.guard(x):
        return back(backend.copy(backend.cast(x, backend.dtype(like))), like)
