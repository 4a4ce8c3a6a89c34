"""The state of an optimizer in Keras's variables, and its steps on them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.stateless_scope import in_stateless_scope

from ..._typing import Array, Tree
from ...arrays.libraries import backend_of
from ...arrays.trees import flatten
from ...optimizer import Optimizer
from ...step import checks
from ...step.pure import refuse_offload
from ...step.session import session_of
from ...step.state import State
from ...step.summary import Summary, summary_of
from ..continuing import begun
from .variables import (
    apart,
    escaped,
    has_values,
    is_dense,
    nested,
    number_like,
    paths_of,
    same,
    tensor,
    variable_like,
    widest,
)


class KerasState:
    """Slots and scalar state in variables that belong to a Keras optimizer.

    Parameters
    ----------
    owner : keras.optimizers.Optimizer
        The optimizer that tracks the variables.
    inner : Optimizer
        The optimizer that defines the slots and takes the steps.
    variables : sequence of keras.Variable
        The parameters.
    without : sequence of bool
        Whether each has no slots, because it is never stepped.
    source : Optimizer, optional
        The optimizer with the initial state, which may include averages besides the slots.
    """

    def __init__(
        self,
        owner: Any,
        inner: Optimizer,
        variables: Sequence[Any],
        without: Sequence[bool],
        source: Optimizer | None = None,
    ) -> None:
        self._inner, self._variables, self._without = inner, list(variables), list(without)
        self.paths = paths_of(variables)
        known = has_values(variables)
        values = self._values() if known else self._instead(0.0)
        leaves, self._structure = flatten(nested(self.paths, values))
        places = {escaped(path): k for k, path in enumerate(self.paths)}
        self._order = [places[path] for path in self._structure.paths]
        self._leaves = checks.describe(leaves, self._structure)
        state = self._begun(source or inner, values)
        # Slots that start as the parameter, if its value can be read only in the first step.
        self._late = [] if known else self._that_begin_late(source or inner, state)
        self.scalars = {
            name: number_like(owner, name, value, widest()) for name, value in state.scalars.items()
        }
        counts = inner.nonfinite == "skip"
        self.skipped = number_like(owner, "skipped", state.skipped, "int32") if counts else None
        self.slots: list[dict[str, Any]] = [
            {
                name: variable_like(
                    owner, f"{path.replace('/', '_')}_{name}", slots[name], variable
                )
                for name in state.names
                if name in slots and name != "average"
            }
            for path, variable, slots in zip(self.paths, variables, state.slots, strict=True)
        ]
        self._tensors: list[dict[str, Array]] = []
        self._started: dict[str, Any] = {}
        if source is not None:
            owner._iterations.assign(state.iterations)
            self._average(state, owner, values)

    def summary(self, name: str) -> Summary:
        """Return a table of the state, see `Optimizer.summary`."""
        described = tuple(self._unordered(self._leaves))
        return summary_of(session_of(self._inner), described, name)

    def restart(self, owner: Any) -> None:
        """Restart from the current values of the variables."""
        state = self._begun(self._inner, self._values())
        for name, variable in self.scalars.items():
            variable.assign(state.scalars[name])
        if self.skipped is not None:
            self.skipped.assign(0)
        for held, slots in zip(self.slots, state.slots, strict=True):
            for name, variable in held.items():
                variable.assign(apart(slots[name]))
        self._average(state, owner, self._values())
        for total in owner._accumulated_gradients if owner.gradient_accumulation_steps else ():
            total.assign(keras.ops.zeros_like(tensor(total)))

    def _begun(self, source: Optimizer, values: Sequence[Any]) -> State:
        """Return the initial state, in the order of the variables."""
        refuse_offload(session_of(source).settings, values)
        return begun(source, values, tuple(self._unordered(self._leaves)))

    def _instead(self, value: float) -> list[Any]:
        """Return placeholders for variables that cannot be read yet."""
        pairs = zip(self._variables, self._without, strict=True)
        return [
            None
            if out
            else keras.ops.full(v.shape, value, dtype=keras.backend.standardize_dtype(v.dtype))
            for v, out in pairs
        ]

    def _that_begin_late(self, source: Optimizer, zeros: State) -> list[tuple[int, str]]:
        """Return the slots that start as the parameter: those equal to it for both 0 and 1."""
        ones = self._begun(source, self._instead(1.0))
        rows = enumerate(zip(zeros.slots, ones.slots, strict=True))
        return [(k, name) for k, (a, b) in rows for name in a if not same(a[name], b[name])]

    def _average(self, state: State, owner: Any, values: Sequence[Any]) -> None:
        """Set Keras's averages from the state, or start them from the variables."""
        if not owner.use_ema:
            return
        rows = zip(owner._model_variables_moving_average, values, state.slots, strict=True)
        for average, value, slots in rows:
            if average is not None:
                average.assign(apart(slots.get("average", value)))

    @contextlib.contextmanager
    def one_step(self) -> Iterator[None]:
        """Treat several calls of `step` as one step, which starts from one scalar state."""
        self._started = {name: tensor(v) + 0 for name, v in self.scalars.items()}
        try:
            yield
        finally:
            self._started = {}

    def step(
        self,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        places: Sequence[int],
        owner: Any,
        rate: Any = None,
    ) -> Any:
        """Take one step.

        Parameters
        ----------
        gradients, variables, places : sequence
            The gradients, the variables that have one, and their indices among all variables.
        owner : keras.optimizers.Optimizer
            The optimizer with the learning rate and the step count.
        rate : float or tensor, optional
            The learning rate, if different from the owner's.

        Returns
        -------
        int or 0-d tensor
            1, or 0 if the step was skipped.
        """
        row: list[Any] = [None] * len(self._variables)
        lazy = self._inner.sparse == "lazy"
        for k, g in zip(places, gradients, strict=True):
            row[k] = g if lazy and not is_dense(g) else tensor(g)
        for name, start in self._started.items():
            self.scalars[name].assign(start)
        rate = owner.learning_rate if rate is None else rate
        if keras.backend.backend() == "torch" and not in_stateless_scope():
            return self._step_in_place(self._tree(row), owner, float(rate))
        return self._step_as_value(self._tree(row), owner, rate)

    def _step_in_place(self, gradients: Tree, owner: Any, rate: float) -> int:
        """Let the engines write into the variables in place."""
        inner = self._inner
        before, skipped = int(owner.iterations), inner.skipped
        if inner.lr != rate:
            inner.lr = rate
        params = self._tree(self._values())
        if not self._tensors:
            self._adopt()
        inner.iterations = before
        state = session_of(inner).state
        assert state is not None
        # Not by attribute, which would refuse non-finite values: diverging training continues.
        state.scalars.update({name: float(v) for name, v in self.scalars.items()})
        inner.apply(gradients, params)
        for held, own in zip(state.slots, self._tensors, strict=True):
            for name, memory in own.items():
                if held[name] is not memory:
                    memory.copy_(held[name])
                    held[name] = memory
        for name, variable in self.scalars.items():
            variable.assign(state.scalars[name])
        taken = inner.iterations - before
        if self.skipped is not None:
            self.skipped.assign_add(inner.skipped - skipped)
        return taken

    def _adopt(self) -> None:
        """Use the variables' own tensors as the optimizer's slots."""
        rows = [{name: v.value for name, v in slots.items()} for slots in self.slots]
        self._tensors = [rows[k] for k in self._order]
        names = tuple(dict.fromkeys(name for row in rows for name in row))
        scalars = dict.fromkeys(self.scalars, 0.0)
        slots = [dict(row) for row in self._tensors]
        session_of(self._inner).replace(State(self._leaves, names, slots, scalars))

    def _step_as_value(self, gradients: Tree, owner: Any, rate: Any) -> Any:
        """Compute the step, possibly traced by a compiler, and assign the results."""
        params = self._tree(values := self._values())
        self._begin(owner)
        backend = backend_of(next(v for v in values if v is not None))
        xp = backend.xp if backend.compiles else np
        kind = xp.asarray(0.0).dtype

        def number(x: Any, dtype: Any = None) -> Any:
            value = tensor(x)
            return backend.to_host(value)[()] if xp is np else xp.asarray(value, dtype=dtype)

        names = dict.fromkeys(name for slots in self.slots for name in slots)
        state = {
            "iterations": number(owner.iterations),
            "skipped": xp.asarray(0) if self.skipped is None else number(self.skipped),
            "hyper": {"lr": number(rate, kind)},
            "scalars": {name: number(v, kind) for name, v in self.scalars.items()},
            "slots": {name: self._column(name) for name in names},
        }
        new, after = self._inner.stateless_apply(state, gradients, params)
        for variable, old, value in zip(self._variables, values, self._listed(new), strict=True):
            if value is not old:
                owner.assign(variable, value)
        for name, tree in after["slots"].items():
            for slots, value in zip(self.slots, self._listed(tree), strict=True):
                if value is not None:
                    owner.assign(slots[name], value)
        for name, variable in self.scalars.items():
            variable.assign(after["scalars"][name])
        if self.skipped is not None:
            self.skipped.assign(after["skipped"])
        elif self._inner.skip_spikes is None:
            return 1
        return after["iterations"] - state["iterations"]

    def _begin(self, owner: Any) -> None:
        """In the first step, read initial values of slots that could not be read before."""
        first = keras.ops.equal(owner.iterations, 0)
        for k, name in self._late:
            slot = self.slots[k][name]
            value = keras.ops.cast(tensor(self._variables[k]), slot.dtype)
            slot.assign(keras.ops.where(first, value, tensor(slot)))

    def _values(self) -> list[Any]:
        pairs = zip(self._variables, self._without, strict=True)
        return [None if out else tensor(v) for v, out in pairs]

    def _column(self, name: str) -> Tree:
        slots = (held.get(name) for held in self.slots)
        return self._tree([None if v is None else tensor(v) for v in slots])

    def _tree(self, row: Sequence[Any]) -> Tree:
        """Return a tree with the paths of the variables."""
        return self._structure.build([row[k] for k in self._order])

    def _listed(self, tree: Tree) -> list[Any]:
        """Return the list of which `_tree` made a tree."""
        return self._unordered(flatten(tree)[0])

    def _unordered(self, leaves: Sequence[Any]) -> list[Any]:
        row: list[Any] = [None] * len(self._order)
        for k, leaf in zip(self._order, leaves, strict=True):
            row[k] = leaf
        return row
