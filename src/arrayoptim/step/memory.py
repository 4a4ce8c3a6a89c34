"""What one optimizer holds between steps: state, lock, plan and prepared engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import ref

from .._locks import lock
from .._typing import Array, Scalar
from ..arrays.trees import Structure
from . import checks, unused_results
from .assignment import Assignment, assign
from .executors import beside_state
from .fingerprint import require_same
from .formula import Formula
from .per_model import Stack
from .plan import Plan
from .prepared import Prepared
from .restore import blaming, from_list, from_record
from .settings import Settings, settings_of
from .sharding import Spread
from .spikes import TOLD, told
from .state import Clock, State
from .take import Leaves, Taken

if TYPE_CHECKING:
    from typing_extensions import Self

    from .. import persistence

_LEFT_OUT = ("_formula", "lock", "last", "_settings", "_plan", "_made", "_stack", "spread")


class Memory:
    """State, lock and plan of one optimizer, and the engines prepared for its next step.

    Parameters
    ----------
    formula : Formula
        The optimizer.

    Attributes
    ----------
    lock : Lock
        Held during a step, so that steps of several threads do not interleave.
    state : State or None
        The state; None until parameters have been seen.
    pending : Record, list or None
        State loaded before parameters have been seen, to be used then.
    strict : bool
        Whether every difference between `pending` and the parameters is an error.
    expected : str or None
        The fingerprint that the parameters must have when they are seen next.
    first_iteration : int
        Initial value of the step count.
    told : dict of str to scalar
        The losses passed for the first step before there was a state.
    told_before : dict of str to scalar or None
        The losses of earlier calls, if more were passed for the next call.
    last : Taken or None
        The last step, for its report.
    spread : Spread or None
        How the arrays are sharded over processes; None if they are not.
    """

    def __init__(self, formula: Formula) -> None:
        self.belong_to(formula)
        self._prepare_to_serve()
        self.reset()

    def _prepare_to_serve(self) -> None:
        self.lock = lock()
        self.last: Taken | None = None
        self.spread: Spread | None = None
        self._settings: Settings | None = None
        self._plan: Plan | None = None
        self._made: Prepared | None = None
        self._stack: Stack | None = None

    def belong_to(self, formula: Formula) -> None:
        """Attach to an optimizer, which owns the session; the session refers to it weakly."""
        self._formula = ref(formula)

    @property
    def formula(self) -> Formula:
        """The optimizer."""
        formula = self._formula()
        assert formula is not None
        return formula

    def reset(self) -> None:
        """Discard all state, including loaded state not yet used."""
        self.state: State | None = None
        self.pending: persistence.Record | list[Any] | None = None
        self.strict = True
        self.expected: str | None = None
        self.first_iteration = 0
        self.told: dict[str, Scalar] = dict(TOLD)
        self.told_before: dict[str, Scalar] | None = None
        self.last = self._plan = self._made = None

    def copy(self, formula: Formula) -> Self:
        """Return a session for another optimizer with a copy of the state."""
        new = type(self).__new__(type(self))
        vars(new).update({k: v for k, v in vars(self).items() if k not in _LEFT_OUT})
        new.belong_to(formula)
        new._prepare_to_serve()
        return new

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the lock, the engines and device data, which cannot be pickled."""
        return {k: v for k, v in vars(self).items() if k not in _LEFT_OUT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, with a new lock."""
        vars(self).update(state)
        self._prepare_to_serve()

    # ---- what a step depends on

    @property
    def settings(self) -> Settings:
        """The current hyperparameters."""
        self._settings = found = settings_of(self.formula, self._settings)
        return found

    @property
    def plan(self) -> Plan:
        """Settings and assignment for the parameters of the state."""
        known, formula = self._plan, self._formula()
        if known is not None and formula is not None and known.settings.holds(formula):
            return known
        assert self.state is not None
        settings, kept = self.settings, known.assignment if known else None
        self._plan = found = Plan(settings, assign(settings, self.state.leaves, kept))
        return found

    def assign(self, leaves: Sequence[checks.Leaf | None]) -> Assignment:
        """Return the settings and slots that some parameters would have."""
        return assign(self.settings, leaves)

    @property
    def scalars(self) -> Mapping[str, Scalar]:
        """The scalar state; empty before `init`."""
        return self.state.scalars if self.state else {}

    @property
    def iterations(self) -> int:
        """Steps taken."""
        return int(self.state.iterations if self.state else self.first_iteration)

    # ---- the state

    def require_state(self) -> None:
        """Raise if there is neither state nor a loaded record.

        Raises
        ------
        ValueError
            If there is neither.
        """
        if self.state is None and self.pending is None:
            raise ValueError(
                f"{self.formula!r} has no state yet; call init(params) or take a step first"
            )

    def ready(self, leaves: Leaves, structure: Structure) -> State:
        """Return the state for some parameters; make it if there is none yet.

        Raises
        ------
        RuntimeError
            If a step was interrupted half-way.
        TypeError, ValueError
            If the parameters cannot be stepped, or the state belongs to others.
        """
        if self.state is not None and self.state.interrupted:
            raise RuntimeError(
                "a step of this optimizer was interrupted half-way; load a checkpoint of "
                "parameters and optimizer, or reset() the optimizer"
            )
        if self.settings.models is not None and not isinstance(structure, Stack):
            raise ValueError(
                f"{self.formula!r}: this way of stepping supports one model only; call apply() of "
                "the optimizer itself with arrays whose first axis counts the models"
            )
        if self.expected is not None and not structure.names:
            require_same(self.expected, leaves, structure.paths)
        found = self.described(leaves, structure)
        if self.state is not None:
            checks.same_tree(self.state.leaves, found)
            self.plan.check(self.state)
        checks.no_overlap(leaves, structure, self.state.slots if self.state else ())
        if self.state is None:
            self.replace(self.fresh(leaves, found))
        assert self.state is not None
        self.expected = None
        return self.state

    def described(self, leaves: Leaves, structure: Structure) -> tuple[checks.Leaf | None, ...]:
        """Return what is known of each parameter; see `checks.describe`."""
        found = checks.describe(leaves, structure)
        return found if self.spread is None else self.spread.described(found)

    def replace(self, state: State) -> None:
        """Adopt another state; what was prepared for the old one is discarded."""
        state.interrupted = False
        plan = Plan(self.settings, assign(self.settings, state.leaves))
        if self.told["loss_told"] and self.settings.loss_guarded:
            state.share(told(state.common(), self.told["loss_sum"], self.told["loss_told"]))
            self.told = dict(TOLD)
        self.state, self._made, self._plan, self.pending = state, None, plan, None

    def fresh(
        self,
        params: Leaves,
        leaves: tuple[checks.Leaf | None, ...],
        held: Sequence[dict[str, Array]] = (),
    ) -> State:
        """Return the initial state, with what was loaded and the slots held already.

        Parameters
        ----------
        params : sequence of array or None
            The parameters.
        leaves : tuple of Leaf or None
            Their description.
        held : sequence of dict
            For each parameter its slots, empty where they are to be made.
        """
        assignment, offload = self.assign(leaves), self.settings.whole["offload"]
        starts = [member.formula.initial_slots() for member in self.settings.members]
        chosen = [starts[member] for member in assignment.members]
        beside = beside_state(params, offload)
        there = [dict(zip(s, beside_state([*s.values()], offload), strict=True)) for s in held]
        state = State.initial(assignment.layouts, beside, leaves, chosen, there)
        state.scalars = self.settings.initial_scalars()
        numbers = self.settings.initial_of_models()
        if numbers is not None:
            state.models, state.many = Clock(0, numbers), self.settings.models or 1
        state.count(self.first_iteration)
        pending = self.pending
        if isinstance(pending, list):
            return from_list(state, pending, type(self.formula).__name__)
        if pending is not None:
            after = self.formula.scalars_after
            with blaming(pending):
                state, _ = from_record(state, pending, strict=self.strict, after=after)
        return state

    def tell(self, total: float, count: float = 1.0, anew: bool = False) -> None:
        """Record losses of the next step, for the spike guard on the loss.

        Parameters
        ----------
        total : float
            Sum of the losses.
        count : float
            Number of losses.
        anew : bool
            Whether they replace those recorded before.
        """
        with self.lock:
            held = self.told if self.state is None else self.state.common()
            if self.state is not None and not TOLD.keys() <= held.keys():
                self.plan.check(self.state)
            if self.told_before is None:
                self.told_before = {name: held[name] for name in TOLD}
            self._put_told(told(TOLD if anew else held, total, count))

    def untell(self) -> None:
        """Discard the losses passed for a call that has failed."""
        with self.lock:
            before, self.told_before = self.told_before, None
            held = self.told if self.state is None else self.state.common()
            # A step that was taken has used the losses, so that fewer are held.
            if before is not None and held["loss_told"] > before["loss_told"]:
                self._put_told(before)

    def _put_told(self, numbers: dict[str, Scalar]) -> None:
        if self.state is None:
            self.told = numbers
        else:
            self.state.share(numbers)

    def forget_engines(self) -> None:
        """Make the next step choose engines again, because slots have been replaced."""
        self._made = None

    def snapshot(self) -> Callable[[], None]:
        """Return a function that restores the present state, whose arrays must not be written."""
        before, state = dict(vars(self)), self.state
        kept = None if state is None else replace(state, scalars=dict(state.scalars))

        def restore() -> None:
            vars(self).update(before)
            if state is not None and kept is not None:
                vars(state).update(vars(kept))
            unused_results.forget(self.formula)

        return restore
