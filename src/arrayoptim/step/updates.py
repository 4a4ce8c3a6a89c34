"""Keras's graph-style surface: gradients of a loss, and updates as pairs to be carried out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array, Scalar, Tree
from ..arrays.differentiation import gradients_of
from ..arrays.libraries import backend_of, is_array
from ..arrays.trees import Structure
from ..engines import Step, back, limited, measure, sweep
from ..gradients import clip_gradient
from . import checks
from .clipping import clipping
from .state import State
from .stepping import Stepping


@dataclass(frozen=True)
class StateTarget:
    """A place in an optimizer's state that an update fills.

    Attributes
    ----------
    optimizer : Optimizer
        Whose state it is.
    name : str
        ``"iterations"``, a scalar state, or a slot.
    place : int or None
        For a slot, the number of the parameter.
    """

    optimizer: Updating
    name: str
    place: int | None = None


class Updating:
    """The part of an optimizer that carries out updates."""

    if TYPE_CHECKING:
        _lock: Any

        def _put(self, target: StateTarget, value: Any) -> bool:
            """Put a value into the state, and give False."""

    def apply_updates(self, updates: Iterable[tuple[Any, Any]]) -> list[Array]:
        """Carry out what `get_updates` gave.

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
                raise ValueError(f"these updates are of another optimizer, {target.optimizer!r}")
            if not isinstance(target, StateTarget) and not is_array(target):
                raise TypeError(
                    f"update target: found {type(target).__qualname__}, wanted an array"
                )
        with self._lock:
            return [
                _assign(target, value)
                for target, value in updates
                if not isinstance(target, StateTarget) or self._put(target, value)
            ]


class Differentiating(Stepping, Updating):
    """The part of `arrayoptim.Optimizer` that starts from a loss."""

    def get_gradients(self, loss: Any, params: Tree) -> Tree:
        """Differentiate a loss, and clip as a step would.

        Parameters
        ----------
        loss : torch.Tensor or callable
            A torch scalar, or a function of the parameters that gives a scalar (torch, JAX, or
            NumPy with the autograd package) or the pair ``(value, gradients)``.
        params : tree of arrays
            The parameters.

        Returns
        -------
        tree of arrays
            Clipped gradients, structured like `params`.

        Raises
        ------
        TypeError
            If `loss` is neither, or nothing can differentiate it.
        ValueError
            If it does not depend on a parameter.
        """
        grads, leaves, structure = gradients_of(loss, params)
        checks.gradients(grads, leaves, structure)
        return structure.build(self._clipped(grads, leaves, structure))

    def _clipped(
        self, grads: Sequence[Array | None], leaves: Sequence[Array | None], structure: Structure
    ) -> list[Array | None]:
        """Clip gradients as a step would, before there is a state too."""
        now = State((), (), [], dict(self._present_scalars()), self.iterations)
        values, members = self._values(now), self._members(structure.paths)
        frozen = self._fixed().frozen
        counted = [None if k in frozen else g for g, k in zip(grads, members, strict=True)]
        size = self._measure(values, counted)
        tables = [clipping(SimpleNamespace(**values[0] | own), size, np) for own in values]
        numbers = {
            i: {name: v[i] if isinstance(v, list) else v for name, v in tables[k].items()}
            for i, k in enumerate(members)
        }
        found = limited(numbers, self.agc_units, leaves, grads)
        return [
            None if g is None else clip_gradient(limit, g, numbers[i])
            for i, (limit, g) in enumerate(zip(found, grads, strict=True))
        ]

    def get_updates(self, params: Tree, loss: Any) -> list[tuple[Any, Any]]:
        """Compute a whole step and change nothing.

        Parameters
        ----------
        params : tree of arrays
            The parameters.
        loss : torch.Tensor or callable
            See `get_gradients`. The two may come in either order, as Keras 2 and natural_bm have
            it.

        Returns
        -------
        list of (target, new value)
            First ``iterations``, scalar state and slots, each with a `StateTarget`, then the
            parameters, each with the parameter itself. `apply_updates` carries them out.
        """
        if is_loss(params) and not is_loss(loss):
            params, loss = loss, params
        gradients, leaves, structure = gradients_of(loss, params)
        checks.gradients(gradients, leaves, structure)
        with self._lock:
            state = self._ready(leaves, structure)
            assert self._assignment is not None
            gradients = list(self._thawed(gradients, self._assignment))
            values = self._values(state)
            size = self._measure(values, gradients)
            if self._refuses(size, state.iterations):
                return [(StateTarget(self, "skipped"), state.skipped + 1)]

            def totals(step: Step) -> dict[int, list[Scalar]]:
                given = self._beside_state(self._limited([step], leaves, gradients))
                return measure(step, beside, given, state.slots)

            beside = self._beside_state(leaves)
            steps, scalars = self._steps(values, state, self._assignment, size, np, totals)
            given = self._beside_state(self._limited(steps, leaves, gradients))
            new_leaves, new_slots = beside, state.slots
            for step in steps:
                new_leaves, new_slots = sweep(step, new_leaves, given, new_slots, in_place=False)
        updates: list[tuple[Any, Any]] = [
            (StateTarget(self, "iterations"), state.iterations + 1),
            *((StateTarget(self, name), value) for name, value in scalars.items()),
        ]
        for place, (old, new) in enumerate(zip(state.slots, new_slots, strict=True)):
            updates += [(StateTarget(self, n, place), new[n]) for n in new if new[n] is not old[n]]
        changed = zip(leaves, beside, new_leaves, strict=True)
        return updates + [(old, back(new, old)) for old, was, new in changed if new is not was]

    def _put(self, target: StateTarget, value: Any) -> bool:
        state = self._state
        if state is None:
            raise ValueError("these updates are of a state that was reset")
        if target.place is not None:
            state.slots[target.place][target.name] = value
            self._prepared = None
        elif target.name in state.scalars:
            state.scalars[target.name] = value
        else:
            setattr(state, target.name, value)
        return False


def _assign(target: Array, value: Array) -> Array:
    backend = backend_of(target)
    if not backend.writable(target):
        return value
    with backend.guard(target):
        backend.store(target, value)
    return target


def is_loss(value: Any) -> bool:
    """Whether a value is a loss, and not a tree of parameters."""
    return callable(value) or (
        is_array(value) and getattr(value, "grad_fn", None) is not None and value.ndim == 0
    )
