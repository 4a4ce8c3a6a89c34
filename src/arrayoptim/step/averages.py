"""Averages of the parameters: those that a stage keeps, and those that belong to a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from .._typing import Array, Tree
from ..arrays.backend import COMPUTE
from ..arrays.libraries import COMPLEX, backend_of
from ..arrays.trees import Structure, flatten
from ..engines import back
from ..numerics.slots import Layout
from ..rules import stages
from .assignment import Assignment
from .formula import Formula
from .state import State
from .stepping import Stepping


class Averaging(Stepping):
    """The part of `arrayoptim.Optimizer` that gives averages."""

    def averages(self, params: Tree) -> Tree:
        """Give the averages of the parameters, the points to evaluate.

        They are the moving averages that `ema_momentum` asks for; without it those of the rule,
        which `ASGD`, `ScheduleFreeSGD` and `ScheduleFreeAdamW` have.

        Parameters
        ----------
        params : tree of arrays
            The parameters; they stay as they are.

        Returns
        -------
        tree of arrays
            New arrays, structured like `params` and of their data types. A parameter in a group
            whose optimizer keeps no average is its own.

        Raises
        ------
        ValueError
            If `ema_momentum` is None and no rule keeps an average, or there is no state yet.
        """
        leaves, structure = flatten(params)
        with self._lock:
            self._require_state()
            state = self._ready(leaves, structure)
            assert self._assignment is not None
            values = self._values(state)
            return self._averaged(state, self._assignment, values, leaves, structure)

    def _averaged(
        self,
        state: State,
        assignment: Assignment,
        values: list[dict[str, Any]],
        leaves: Sequence[Array | None],
        structure: Structure,
    ) -> Tree:
        """Give averages out of any state, and under any hyperparameters."""
        formulas = self._fixed().formulas
        settings = [SimpleNamespace(**values[0] | own) for own in values]
        found: list[Array | None] = [
            _average(formulas[member], settings[member], layout, p, slots)
            if p is not None and layout is not None
            else None
            for member, layout, p, slots in zip(
                assignment.members,
                assignment.layouts,
                self._beside_state(leaves),
                state.slots,
                strict=True,
            )
        ]
        if all(x is None for x in found) and any(p is not None for p in leaves):
            raise ValueError(
                f"there are no averages: ema_momentum is None, and {type(self).__name__} "
                "keeps none by itself"
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
    """Give a copy of an array in the data type of another, where that one is."""
    backend = backend_of(x)
    with backend.guard(x):
        return back(backend.copy(backend.cast(x, backend.dtype(like))), like)
