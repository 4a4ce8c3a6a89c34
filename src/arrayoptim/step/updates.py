"""Keras's graph-style methods: gradients of a loss, and updates as pairs to be applied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array, Tree
from ..arrays.derivatives import gradients_of
from ..arrays.libraries import backend_of, is_array
from ..arrays.rows import Rows, stored
from ..arrays.trees import Structure
from ..config.spoken import part_of
from ..engines import OWN, back, limited
from ..gradients import clip_gradient
from . import checks
from .clipping import clipping
from .executors import Pure, measured_where_wanted, not_finite
from .per_model import spread
from .plan import Plan
from .session import Session
from .sparse import in_rows, settled
from .take import Leaves, take


@dataclass(frozen=True)
class StateTarget:
    """An entry of an optimizer's state, as the target of an update.

    Attributes
    ----------
    optimizer : Optimizer
        The optimizer whose state it is.
    name : str
        ``"iterations"``, a scalar state, or a slot.
    place : int or None
        For a slot, the index of the parameter.
    """

    optimizer: Any
    name: str
    place: int | None = None


@part_of("arrayoptim.optimizer", "Optimizer")
class Updating:
    """Keras's graph-style methods of an optimizer."""

    if TYPE_CHECKING:

        @property
        def _lock(self) -> Any: ...

        def _put(self, target: StateTarget, value: Any) -> None:
            """Write a value into the state."""

    def apply_updates(self, updates: Iterable[tuple[Any, Any]]) -> list[Array]:
        """Carry out the updates that `get_updates` returned.

        Parameters
        ----------
        updates : iterable of (target, new value)
            The pairs.

        Returns
        -------
        list of array
            The parameters among the targets, in order: updated in place where they can be written,
            otherwise the new arrays.
        """
        updates = list(updates)
        for target, _ in updates:
            if isinstance(target, StateTarget) and target.optimizer is not self:
                raise ValueError(f"these updates belong to another optimizer, {target.optimizer!r}")
            if not isinstance(target, StateTarget) and not is_array(target):
                raise TypeError(
                    f"update target: found {type(target).__qualname__}, wanted an array"
                )
        with self._lock:
            for target, value in updates:
                if isinstance(target, StateTarget):
                    self._put(target, value)
            return [_assign(t, value) for t, value in updates if not isinstance(t, StateTarget)]


def clipped(
    session: Session, grads: Leaves, leaves: Leaves, structure: Structure
) -> list[Array | None]:
    """Clip gradients as a step would, even before a state exists."""
    settings = session.settings
    if (rows := in_rows(grads, leaves)) is not None:
        checks.gradients(rows, leaves, structure)
        plan = Plan(settings, session.assign(checks.describe(leaves, structure)))
        whole = settled(plan, rows, leaves, structure)
        found = _clipped(session, stored(whole), leaves, structure)
        return [
            Rows(g.indices, new, g.shape) if type(g) is Rows else new
            for g, new in zip(whole, found, strict=True)
        ]
    return _clipped(session, grads, leaves, structure)


def _clipped(
    session: Session, grads: Leaves, leaves: Leaves, structure: Structure
) -> list[Array | None]:
    settings = session.settings
    values = settings.at(session.iterations, session.scalars)
    members = settings.members_of(structure.names or structure.paths)
    pairs = zip(grads, members, strict=True)
    counted = [None if settings.members[k].frozen else g for g, k in pairs]
    size = measured_where_wanted(settings, values, counted)
    tables = [spread(clipping(values[0] | own, size, np), len(leaves)) for own in values]
    numbers = {
        i: {name: v[i] if isinstance(v, OWN) else v for name, v in tables[k].items()}
        for i, k in enumerate(members)
    }
    found = limited(numbers, leaves, grads)
    return [
        None if g is None else clip_gradient(limit, g, numbers[i])
        for i, (limit, g) in enumerate(zip(found, grads, strict=True))
    ]


def updates_of(session: Session, params: Tree, loss: Any) -> list[tuple[Any, Any]]:
    """Compute a step without changing anything; see `Optimizer.get_updates`."""
    try:
        return _updates_of(session, params, loss)
    except BaseException:
        session.untell()
        raise


def _updates_of(session: Session, params: Tree, loss: Any) -> list[tuple[Any, Any]]:
    if session.settings.models is not None:
        raise ValueError("get_updates supports one model only; for many, call apply or minimize")
    found, leaves, structure = gradients_of(loss, params)
    rows = in_rows(found, leaves)
    checks.gradients(found if rows is None else rows, leaves, structure)
    with session.lock:
        state, plan, owner = session.ready(leaves, structure), session.plan, session.formula
        grads = found if rows is None else settled(plan, rows, leaves, structure)
        values = plan.settings.at(state.iterations, state.scalars)
        offload = plan.settings.whole["offload"]
        executor = Pure(leaves, state.slots, values, offload=offload)
        taken = take(plan, state, grads, executor)
    if taken is None:
        assert executor.taken is not None
        numbers = executor.taken.numbers.items()
        counted = state.skipped + not_finite(executor.taken)
        return [
            (StateTarget(owner, "skipped"), counted),
            *((StateTarget(owner, name), value) for name, value in numbers),
        ]
    new_leaves, new_slots, scalars = taken
    updates: list[tuple[Any, Any]] = [
        (StateTarget(owner, "iterations"), state.iterations + 1),
        *((StateTarget(owner, name), value) for name, value in scalars.items()),
    ]
    for place, (old, new) in enumerate(zip(state.slots, new_slots, strict=True)):
        updates += [(StateTarget(owner, n, place), new[n]) for n in new if new[n] is not old[n]]
    changed = zip(leaves, executor.beside, new_leaves, strict=True)
    return updates + [(old, back(new, old)) for old, was, new in changed if new is not was]


def put(session: Session, target: StateTarget, value: Any) -> None:
    """Write a new value into the state."""
    state = session.state
    if state is None:
        raise ValueError("these updates belong to a state that has been reset")
    if target.place is not None:
        state.slots[target.place][target.name] = value
        session.forget_engines()
    elif target.name in state.scalars:
        state.scalars[target.name] = value
    else:
        setattr(state, target.name, value)


def _assign(target: Array, value: Array) -> Array:
    backend = backend_of(target)
    if not backend.writable(target):
        return value
    with backend.guard(target):
        backend.store(target, value)
    return target


def is_loss(value: Any) -> bool:
    """Whether a value is a loss, as opposed to a tree of parameters."""
    return callable(value) or (
        is_array(value) and getattr(value, "grad_fn", None) is not None and value.ndim == 0
    )
