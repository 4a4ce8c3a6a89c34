"""Stepping: the fixed pipeline around a rule, in place."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._locks import lock
from .._typing import Array, Scalar, Tree
from ..arrays.libraries import backend_of
from ..arrays.trees import Structure, flatten
from ..engines import Prepared, Step, hosted, refuse_capturing
from . import checks
from .assignment import Assignment
from .counters import Counting
from .state import State

if TYPE_CHECKING:
    from typing_extensions import Self


class Stepping(Counting):
    """The part of `arrayoptim.Optimizer` that steps."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make an optimizer without state, and with a lock so that threads take whole steps."""
        self = super().__new__(cls)
        self._make_lock()
        self.reset()
        return self

    def _make_lock(self) -> None:
        self._lock = lock()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock, the engines and what devices know, which cannot be pickled."""
        left_out = ("_lock", "_prepared", "_assignment", "_known", "_last")
        return vars(self) | dict.fromkeys(left_out)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up the state, with a lock of its own."""
        vars(self).update(state)
        self._make_lock()

    # ---- stepping

    def init(self, params: Tree) -> None:
        """Make the state for a tree of parameters; `build` is the same.

        Raises
        ------
        TypeError
            If a leaf is no array of a floating-point or complex type.
        ValueError
            If two parameters share memory, or the state was made for another tree.
        """
        self._ready(*flatten(params))

    build = init

    def apply(self, grads: Tree, params: Tree) -> Tree:
        """Take one step.

        Parameters
        ----------
        grads : tree of arrays
            The gradients, structured like `params`. None leaves its parameter alone.
        params : tree of arrays, or one array
            NumPy, CuPy and torch arrays are updated in place.

        Returns
        -------
        tree
            `params` itself where all were updated in place; otherwise a tree of the same
            structure with new arrays in place of those that cannot be written.

        Raises
        ------
        TypeError
            If an array is of a type that cannot be stepped.
        ValueError
            If gradients and parameters do not fit each other, or the parameters the state. Nothing
            has changed then.
        """
        return self._apply(grads, params)

    def _apply(self, grads: Tree, params: Tree, unscale: float = 1.0) -> Tree:
        """Take one step with gradients of which `unscale` times is the true size."""
        leaves, structure = flatten(params)
        found, other = flatten(grads, "gradients")
        if other is not structure:
            checks.same_structure(other, structure)
        with self._lock:
            new = self._take(found, leaves, structure, unscale)
        if all(map(operator.is_, new, leaves)):
            return params
        return structure.build(new)

    def observe(self, metric: Any) -> None:
        """Feed a metric, such as a validation loss, to every schedule that takes one.

        Parameters
        ----------
        metric : float
            What `schedules.Plateau` watches.

        Raises
        ------
        TypeError
            If it is no number.
        ValueError
            If no hyperparameter is such a schedule, or there is no state yet.
        """
        if isinstance(metric, str | bytes) or not hasattr(metric, "__float__"):
            raise TypeError(f"{type(self).__name__}.observe: found {metric!r}, wanted a number")
        with self._lock:
            held = self._present_scalars()
            if self._state is None and self._fixed().keeping:
                raise ValueError("a metric changes the state; call init(params) first")
            new = self._observed(held, float(metric))
            assert self._state is not None
            self._state.scalars = new

    def _explained(
        self, params: Tree
    ) -> tuple[list[tuple[Array, Any, str | None, str | None]], Prepared]:
        """Give each parameter with its slots, its fused engine, and why it has none."""
        leaves, structure = flatten(params)
        with self._lock:
            prepared = self._prepare(leaves, structure)
            assert self._state is not None
            rows = zip(leaves, self._state.slots, prepared.engines, prepared.reasons, strict=True)
            return [row for row in rows if row[0] is not None], prepared

    # ---- the pipeline

    def _take(
        self,
        gradients: Sequence[Array | None],
        leaves: Sequence[Array | None],
        structure: Structure,
        unscale: float = 1.0,
        norm: Scalar | None = None,
    ) -> Sequence[Array | None]:
        """Check and step, with a norm that a caller knows of more gradients than these."""
        if self._prepared is None or self._prepared.others:
            checks.concrete([*leaves, *gradients], type(self).__name__)
            # What a first step makes, such as the state, would belong to the graph.
            refuse_capturing(leaves)
        prepared = self._prepare(leaves, structure)
        checks.gradients(gradients, leaves, structure, prepared.others)
        assert self._assignment is not None
        given = self._thawed(gradients, self._assignment)
        try:
            return self._advance(prepared, leaves, given, unscale, norm)
        except (TypeError, ValueError):
            # What a fused engine refuses is said in the words that all engines share.
            checks.gradients(gradients, leaves, structure)
            raise

    def _prepare(self, leaves: Sequence[Array | None], structure: Structure) -> Prepared:
        """Check the parameters, and give the engines that are ready to step them."""
        prepared, state, threads = self._prepared, self._state, self.threads
        if prepared is not None and state is not None and not state.interrupted:
            assignment = self._assign(state.leaves, self._assignment)
            if prepared.fits(leaves, (assignment.key, structure.paths, threads)):
                # A plan knows address, shape and type of every parameter that it serves.
                if prepared.others:
                    self._ready(leaves, structure)
                return prepared
        refuse_capturing(leaves)
        state = self._ready(leaves, structure)
        assert self._assignment is not None
        key, layouts = self._assignment.key, self._assignment.layouts
        prepared = Prepared(
            (key, structure.paths, threads), leaves, state.slots, layouts, structure.paths, threads
        )
        self._prepared = prepared
        return prepared

    def _require_state(self) -> None:
        if self._state is None:
            raise ValueError(f"{self!r} has no state yet; call init(params) or take a step first")

    def _ready(self, leaves: Sequence[Array | None], structure: Structure) -> State:
        if self._state is not None and self._state.interrupted:
            raise RuntimeError(
                "a step of this optimizer was interrupted half-way; load a checkpoint of "
                "parameters and optimizer, or reset() the optimizer"
            )
        found = checks.describe(leaves, structure)
        if self._state is not None:
            checks.same_tree(self._state.leaves, found)
            self._assignment = self._assign(self._state.leaves, self._assignment)
            self._check_slots(self._state, self._assignment)
        checks.no_overlap(leaves, structure)
        if self._state is not None:
            return self._state
        state = self._fresh(leaves, found)
        self._replace_state(state)
        return state

    def _check_slots(self, state: State, assignment: Assignment) -> None:
        for leaf, layout, held in zip(state.leaves, assignment.layouts, state.slots, strict=True):
            if leaf is None or layout is None:
                continue
            wanted = layout.slots(leaf.dtype)
            kinds = {name: backend_of(x).dtype(x) for name, x in held.items()}
            if kinds != wanted:
                raise ValueError(
                    f"the state of {leaf} has the slots {_listed(kinds)}; with its present "
                    f"hyperparameters {self!r} needs {_listed(wanted)}. Set them before the first "
                    "step, or reset()"
                )
            shapes = layout.shapes(leaf.shape, leaf.dtype) if layout.rule.apart else {}
            found = {name: tuple(held[name].shape) for name in shapes}
            if found != shapes:
                raise ValueError(
                    f"the state of {leaf} has slots of the shapes {found}; with its present "
                    f"hyperparameters {self!r} needs {shapes}. Set them before the first step, or "
                    "reset()"
                )
        if set(state.scalars) != set(self._initial_scalars()):
            raise ValueError(
                f"the state has the numbers {', '.join(state.scalars) or 'none'}; with its present "
                f"hyperparameters {self!r} needs {', '.join(self._initial_scalars()) or 'none'}. "
                "Set them before the first step, or reset()"
            )

    def _replace_state(self, state: State) -> None:
        """Take up another state; what was prepared for the old one is void."""
        state.interrupted = False
        self._state, self._prepared = state, None
        self._assignment = self._assign(state.leaves)

    def _fresh(
        self,
        params: Sequence[Array | None],
        leaves: tuple[checks.Leaf | None, ...],
        held: Sequence[dict[str, Array]] = (),
    ) -> State:
        assignment = self._assign(leaves)
        starts = [formula.initial_slots() for formula in self._fixed().formulas]
        chosen = [starts[member] for member in assignment.members]
        params = self._beside_state(params)
        held = [dict(zip(s, self._beside_state([*s.values()]), strict=True)) for s in held]
        state = State.initial(assignment.layouts, params, leaves, chosen, held)
        state.scalars = self._initial_scalars()
        state.iterations = self._first_iteration
        return state

    def _beside_state(self, arrays: Sequence[Array | None]) -> Sequence[Array | None]:
        """Give arrays where the state is: in host memory with `offload`."""
        if not self._hyper["offload"]:
            return arrays
        return [None if x is None else hosted(x) for x in arrays]

    def _advance(
        self,
        prepared: Prepared,
        leaves: Sequence[Array | None],
        gradients: Sequence[Array | None],
        unscale: float = 1.0,
        norm: Scalar | None = None,
    ) -> Sequence[Array | None]:
        """Step in place, and commit the new state."""
        state = self._state
        assert state is not None
        assert self._assignment is not None
        values = self._values(state)
        size = self._measure(values, gradients, prepared, unscale, norm)
        fixed = self._fixed()
        last = fixed, values, size, state.iterations
        if self._refuses(size, state.iterations):
            state.skipped += 1
            self.__dict__["_last"] = *last, False
            return leaves

        def measure(step: Step) -> dict[int, list[Scalar]]:
            given = self._limited([step], leaves, gradients)
            return prepared.totals(step, leaves, given, state.slots)

        steps, scalars = self._steps(values, state, self._assignment, size, np, measure)
        gradients = self._limited(steps, leaves, gradients)
        sweep_served = prepared.served(steps, gradients)
        gradients = prepared.apart(leaves, gradients)
        state.interrupted = True
        sweep_served()
        new, slots = prepared.sweep_others(steps, leaves, gradients, state.slots)
        state.slots = list(slots)
        self._commit(state, scalars, last)
        return new

    def _commit(self, state: State, scalars: dict[str, Scalar], last: tuple[Any, ...]) -> None:
        """Count a step that has been taken whole, and keep what `last_step` reports of it."""
        state.scalars = scalars
        state.iterations += 1
        state.interrupted = False
        self.__dict__["_last"] = *last, True


def _listed(slots: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in slots.items()) or "none"
