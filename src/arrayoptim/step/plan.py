"""The plan of steps: settings and assignment, computed once and shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .._typing import Array, Namespace
from ..arrays.libraries import COMPUTE, backend_of
from ..engines import Kept, Resident, Step, limited
from ..numerics.formulas import Number
from .assignment import Assignment, columns
from .clipping import Measured
from .numbers import Numbering, seed_of
from .settings import Settings, Values
from .state import Clock, State
from .totals import Measure, Totals, totals


@dataclass(frozen=True, eq=False)
class Plan:
    """Settings and their assignment to parameters, valid until a hyperparameter is set.

    Attributes
    ----------
    settings : Settings
        The hyperparameters.
    assignment : Assignment
        The settings, rule and slots of each parameter.
    """

    settings: Settings
    assignment: Assignment

    @property
    def threads(self) -> int | None:
        """Number of threads requested; None for the default."""
        found: int | None = self.settings.whole["threads"]
        return found

    @cached_property
    def numbering(self) -> Numbering:
        """Computes the per-step scalars."""
        return Numbering(self.settings, self.assignment)

    def thawed(self, gradients: Sequence[Array | None]) -> Sequence[Array | None]:
        """Return the gradients, with None for parameters in frozen groups."""
        settings = self.settings
        if not settings.frozen:
            return gradients
        pairs = zip(gradients, self.assignment.members, strict=True)
        return [None if settings.members[k].frozen else g for g, k in pairs]

    def check(self, state: State) -> None:
        """Refuse a state whose slots or scalars are not those that the hyperparameters need.

        Raises
        ------
        ValueError
            If a slot or scalar differs.
        """
        advice = "Set them before the first step, or reset()"

        def needs() -> str:
            return f"with its present hyperparameters {self.settings.formula!r} needs"

        rows = zip(state.leaves, self.assignment.layouts, state.slots, strict=True)
        for leaf, layout, held in rows:
            if leaf is None or layout is None:
                continue
            wanted = layout.slots(leaf.dtype)
            kinds = {name: backend_of(x).dtype(x) for name, x in held.items()}
            if kinds != wanted:
                raise ValueError(
                    f"the state of {leaf} has the slots {_listed(kinds)}; {needs()} "
                    f"{_listed(wanted)}. {advice}"
                )
            shapes = layout.shapes(leaf.shape, leaf.dtype) if layout.rule.apart else {}
            shapes = {name: leaf.part(shape) for name, shape in shapes.items()}
            found = {name: tuple(held[name].shape) for name in shapes}
            if found != shapes:
                raise ValueError(
                    f"the state of {leaf} has slots with the shapes {found}; {needs()} {shapes}. "
                    f"{advice}"
                )
        initial = self.settings.initial_scalars()
        if set(state.scalars) != set(initial):
            raise ValueError(
                f"the state has the scalars {', '.join(state.scalars) or 'none'}; {needs()} "
                f"{', '.join(initial) or 'none'}. {advice}"
            )

    def numbers(
        self,
        values: Values,
        state: State,
        size: Measured,
        xp: Namespace,
        measure: Measure,
        keeper: Any = None,
    ) -> tuple[list[Step], Any]:
        """Compute the per-step scalars, which do not depend on individual arrays.

        If they depend on totals over all arrays, those are computed first.

        Parameters
        ----------
        values : list of dict
            The hyperparameters of the step, from `Settings.at`.
        state : State
            Its count and scalar state are read.
        size : Measured
            The norms of the gradients.
        xp : module
            Array functions: `numpy`, or ``jax.numpy`` while a step is traced.
        measure : callable
            Computes the totals of each parameter in a step.
        keeper : object, optional
            Keeps totals and scalar state on a device, see `Engines.resident`.

        Returns
        -------
        steps : list of Step
            One per part of the assignment.
        scalars : mapping of str to scalar
            The next scalar state.
        """
        moment = state if state.models is None else state.moment
        wanted = self.assignment.totals
        if not wanted:
            return self.numbering.at(values, moment, size, xp)
        if keeper is not None and state.models is None:
            resident = self._resident(values, state, size, keeper)
            if resident is not None:
                return resident
        known = values, moment, size, xp
        nothing = dict.fromkeys(range(len(values)), dict.fromkeys(wanted, 0.0))
        steps, _ = self.numbering.at(*known, nothing)
        found = totals(steps, measure, self.assignment.members, xp, self.settings.models)
        return self.numbering.at(*known, {k: {**nothing[k], **found.get(k, {})} for k in nothing})

    @cached_property
    def _symbols(self) -> tuple[dict[str, Number], Totals]:
        """Symbols for the scalar state of formulas, and for the totals of each group."""
        wanted, groups = self.assignment.totals, range(len(self.settings.members))
        return (
            {name: Number("state", name=name) for name in self.settings.owned()},
            {k: {n: Number("total", name=f"{k} {n}") for n in wanted} for k in groups},
        )

    def _resident(
        self, values: Values, state: State, size: Measured, keeper: Any
    ) -> tuple[list[Step], Any] | None:
        """Compute a step whose totals and scalar state the host does not know.

        It is None where a formula decides by them what it computes.
        """
        if self.numbering.decides:
            return None
        (names, totals), before = self._symbols, state.scalars
        known = before.unread() if isinstance(before, Resident) else before
        try:
            clock = Clock(state.iterations, known | names)
            steps, after = self.numbering.at(values, clock, size, np, totals)
        # Whatever a formula may do with what is no float, the host can do it with totals.
        except Exception:
            self.numbering.decides = True
            return None
        kept = Kept(before, {n: after[n] for n in names}, self.assignment.members)
        return [replace(step, computed=kept) for step in steps], keeper.resident(after)

    def numbers_by_clock(
        self, values: Values, state: State, size: Measured, xp: Namespace
    ) -> tuple[list[Step], list[Clock]]:
        """Compute the per-step scalars for parameters with different step counts.

        Returns
        -------
        steps : list of Step
            As from `numbers`, with lists for scalars that differ between parameters.
        clocks : list of Clock
            Each clock as it will be once its parameters have stepped.
        """
        known, after = [], []
        for clock in state.clocks:
            steps, scalars = self.numbering.at(values, clock, size, xp)
            known.append(steps)
            after.append(Clock(clock.iterations + 1, scalars))
        seed = seed_of(self.settings, state.iterations, xp)
        return [
            Step(
                rows[0].layout,
                {
                    compute: columns([row.values[compute] for row in rows], state.clock_of)
                    for compute in rows[0].values
                },
                seed,
                rows[0].places,
            )
            for rows in zip(*known, strict=True)
        ], after

    def limited(
        self,
        steps: Sequence[Step],
        leaves: Sequence[Array | None],
        gradients: Sequence[Array | None],
    ) -> Sequence[Array | None]:
        """Return the gradients, clipped adaptively if `agc` is set."""
        return limited_where_wanted(self.settings, steps, leaves, gradients)


def limited_where_wanted(
    settings: Settings,
    steps: Sequence[Step],
    leaves: Sequence[Array | None],
    gradients: Sequence[Array | None],
) -> Sequence[Array | None]:
    """Return the gradients of parameters other than None, clipped adaptively if `agc` is set."""
    if not settings.adaptive or not leaves:
        return gradients
    numbers = {
        i: step.numbers(COMPUTE[backend_of(leaves[i]).dtype(leaves[i])], i)
        for step in steps
        for i in step.places
        if leaves[i] is not None
    }
    return limited(numbers, leaves, gradients)


def _listed(slots: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in slots.items()) or "none"
