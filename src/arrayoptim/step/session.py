"""A session: what an optimizer remembers between steps, and what it prepared for the next."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import ref

from .._locks import lock
from .._typing import Array, Scalar, Tree
from ..arrays.libraries import backend_of
from ..arrays.pieces import Pieces
from ..arrays.rows import places_of_rows, stored
from ..arrays.trees import Structure, flatten
from ..engines import Engines, refuse_capturing
from ..gradients import global_norm
from . import checks, dropped
from .assignment import Assignment, assign
from .clipping import norms_together
from .executors import InPlace, beside_state
from .fingerprint import require_same
from .formula import Formula
from .pieces import Stack, require_writable, split
from .plan import Plan
from .prepared import Prepared
from .restore import blaming, from_list, from_record
from .settings import Settings, settings_of
from .sparse import in_rows, settled
from .spread import Spread
from .state import Clock, State
from .take import Leaves, Taken, take

if TYPE_CHECKING:
    from .. import persistence

Done = TypeVar("Done")

_LEFT_OUT = ("_formula", "lock", "last", "_settings", "_plan", "_made", "_stack", "spread")


class Session:
    """State, lock and plan of one optimizer, and its step.

    Wrappers and adapters use it through `session_of`.

    Parameters
    ----------
    formula : Formula
        The optimizer.

    Attributes
    ----------
    lock : Lock
        Held while a step is taken, so that threads take whole ones.
    state : State or None
        The state, once parameters have been seen.
    pending : Record, list or None
        What was loaded before, and waits for them.
    strict : bool
        Whether each difference between that and the parameters is an error.
    expected : str or None
        The fingerprint that the parameters must have when they are seen next.
    first_iteration : int
        With what the count of steps begins.
    last : Taken or None
        What the last step was.
    spread : Spread or None
        How the arrays lie over several processes; None where all are here.
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
        """Forget all state, including state that was loaded and not yet used."""
        self.state: State | None = None
        self.pending: persistence.Record | list[Any] | None = None
        self.strict = True
        self.expected: str | None = None
        self.first_iteration = 0
        self.last = self._plan = self._made = None

    def copy(self, formula: Formula) -> Session:
        """Return a session of another optimizer with the same state."""
        new = Session.__new__(Session)
        vars(new).update({k: v for k, v in vars(self).items() if k not in _LEFT_OUT})
        new.belong_to(formula)
        new._prepare_to_serve()
        return new

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock, the engines and device data, which cannot be pickled."""
        return {k: v for k, v in vars(self).items() if k not in _LEFT_OUT}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, with a new lock."""
        vars(self).update(state)
        self._prepare_to_serve()

    # ---- what a step depends on

    @property
    def settings(self) -> Settings:
        """The hyperparameters as they are set now."""
        self._settings = found = settings_of(self.formula, self._settings)
        return found

    @property
    def plan(self) -> Plan:
        """Settings and assignment for the parameters of the state."""
        known = self._plan
        if known is not None and known.settings.holds(self.formula):
            return known
        assert self.state is not None
        settings, kept = self.settings, known.assignment if known else None
        self._plan = found = Plan(settings, assign(settings, self.state.leaves, kept))
        return found

    def assign(self, leaves: Sequence[checks.Leaf | None]) -> Assignment:
        """Return which settings and slots some parameters would have."""
        return assign(self.settings, leaves)

    @property
    def scalars(self) -> Mapping[str, Scalar]:
        """The scalar state; empty before there is any."""
        return self.state.scalars if self.state else {}

    @property
    def iterations(self) -> int:
        """Steps taken."""
        return int(self.state.iterations if self.state else self.first_iteration)

    # ---- one step

    def flat(self, tree: Tree) -> tuple[Leaves, Structure]:
        """Return the parameters in a tree and its structure, in pieces where it is of many models.

        Raises
        ------
        TypeError, ValueError
            If a leaf is no array, or its first axis does not count the models.
        """
        leaves, structure = flatten(tree)
        if self.settings.models is None:
            return leaves, structure
        require_writable(leaves, structure)
        pieces, stack = self.pieces(leaves, structure)
        if self.expected is not None:
            require_same(self.expected, leaves, structure.paths)
            self.expected = None
        return pieces, stack

    def pieces(self, leaves: Leaves, structure: Structure) -> tuple[Leaves, Structure]:
        """Return the arrays of each model, and their structure; all as it is of one model."""
        models = self.settings.models
        if models is None:
            return leaves, structure
        stack = self._stack
        if stack is None or stack.whole.paths != structure.paths or stack.models != models:
            self._stack = stack = Stack(structure, models)
        return split(leaves, models, structure.paths), stack

    def step(
        self,
        grads: Tree,
        params: Tree,
        unscale: float = 1.0,
        done: Callable[[Leaves], object] | None = None,
    ) -> Tree:
        """Take one step over trees.

        Parameters
        ----------
        grads, params : tree of arrays
            Gradients and parameters.
        unscale : float
            Factor that brings the gradients to their true scale.
        done : callable, optional
            Called with the parameters after the step, as a part of it.
        """
        with self.lock:
            if self._made is not None and self._again(self._made, grads, params, unscale, done):
                return params
        leaves: Leaves
        found: Leaves
        leaves, structure = flatten(params)
        found, other = flatten(grads, "gradients")
        if other is not structure:
            checks.same_structure(other, structure)
        if self.settings.models is not None:
            with self.lock:
                leaves, structure = self.flat(params)
                found, _ = self.pieces(found, other)
        with self.lock:
            # Where all parameters are new arrays, after an interrupt nobody ever sees them.
            restore = None if done or any_writable(leaves) else self.snapshot()
            try:
                new = self.take(found, leaves, structure, unscale, done=self._telling(done, params))
                if new is leaves or all(map(operator.is_, new, leaves)):
                    return params
                dropped.note(self.formula, leaves, new)
                return structure.build(new)
            except BaseException:
                if restore is not None:
                    restore()
                raise

    def _telling(
        self, done: Callable[[Leaves], object] | None, params: Tree
    ) -> Callable[[Leaves], object] | None:
        """Return what is called with the parameters after a step, whole where that has pieces."""
        if done is None or self.settings.models is None:
            return done
        whole = flatten(params)[0]
        return lambda _: done(whole)

    def snapshot(self) -> Callable[[], None]:
        """Return a function that restores the present state, whose arrays nothing may write."""
        before, state = dict(vars(self)), self.state
        kept = None if state is None else replace(state, scalars=dict(state.scalars))

        def restore() -> None:
            vars(self).update(before)
            if state is not None and kept is not None:
                vars(state).update(vars(kept))
            dropped.forget(self.formula)

        return restore

    def _again(
        self,
        made: Prepared,
        grads: Tree,
        params: Tree,
        unscale: float,
        done: Callable[[Leaves], object] | None,
    ) -> bool:
        """Take a step like the last one, and return whether that was possible.

        Where anything is another than then, nothing is done: the long way finds out what, and says
        what is wrong.
        """
        trees, state = made.apart(params, grads), self.state
        if trees is None or state is None or state.interrupted:
            return False
        plan, (leaves, gradients) = self.plan, trees
        if not made.holds(plan, made.structure):
            return False
        before = state.mark
        given = plan.thawed(gradients) if plan.settings.frozen else gradients
        try:
            if not made.look(leaves, given):
                return False
            commit = self.note
            if done is not None and (told := self._telling(done, params)):
                commit = self._noting(told)
            executor = InPlace(made.engines, leaves, state, commit, unscale, None, self.spread)
            take(plan, state, gradients, executor)
        except (TypeError, ValueError):
            if state.mark != before:
                raise
            return False
        return True

    def take(
        self,
        gradients: Leaves,
        leaves: Leaves,
        structure: Structure,
        unscale: float = 1.0,
        norm: Scalar | None = None,
        done: Callable[[Leaves], object] | None = None,
        sparse: bool = True,
    ) -> Leaves:
        """Check and step, with a norm that the caller has taken over more gradients than these.

        No gradient is looked at for being sparse where the caller knows that none is.
        """
        if self._made is None or self._made.engines.others:
            checks.concrete([*leaves, *gradients], type(self.formula).__name__)
            # What a first step allocates, such as the state, would belong to the graph.
            refuse_capturing(leaves)
        rows = in_rows(gradients, leaves) if sparse else None
        if rows is not None:
            checks.gradients(rows, leaves, structure, places_of_rows(rows))
            if self._made is None or not self._made.holds(self.plan, structure):
                self.ready(leaves, structure)
            gradients = settled(self.plan, rows, leaves, structure, self.spread is None)
        try:
            engines = self.engines(leaves, structure, gradients, rows is not None)
            state, plan = self.state, self.plan
            assert state is not None
            if engines.others:
                checks.gradients(gradients, leaves, structure, engines.others)
            commit = self.note if done is None else self._noting(done)
            executor = InPlace(engines, leaves, state, commit, unscale, norm, self.spread)
            return take(plan, state, gradients, executor)
        except (TypeError, ValueError):
            # The checks that all engines share give the message for what a fused engine refuses.
            checks.gradients(gradients, leaves, structure)
            raise

    def norm(self, gradients: Leaves) -> float:
        """Return the norm of gradients, with the parts that other processes have of them."""
        if self.spread is None:
            return float(global_norm(gradients))
        return float(norms_together(gradients, {}, self.spread)[1])

    def note(self, taken: Taken, leaves: Leaves = ()) -> None:
        """Remember the step that was taken, for its report."""
        self.last = taken

    def _noting(self, done: Callable[[Leaves], object]) -> Callable[[Taken, Leaves], None]:
        def note(taken: Taken, leaves: Leaves) -> None:
            self.last = taken
            done(leaves)

        return note

    def engines(
        self,
        leaves: Leaves,
        structure: Structure,
        gradients: Leaves = (),
        sparse: bool = False,
    ) -> Engines:
        """Check the parameters, and return the engines that are ready to step them.

        Parameters
        ----------
        leaves : sequence of array or None
            The parameters.
        structure : Structure
            Their structure.
        gradients : sequence of array or None
            The gradients that the engines are to look at; none yet where it is empty.
        sparse : bool
            Whether some of them may be `Rows`.
        """
        made, state = self._made, self.state
        if made is not None and state is not None and not state.interrupted:
            plan = self.plan
            if made.holds(plan, structure):
                given = plan.thawed(gradients) if gradients else gradients
                # An engine knows address, shape and dtype of every parameter that it serves.
                if made.engines.look(leaves, given, sparse):
                    if made.engines.others:
                        self.ready(leaves, structure)
                    return made.engines
        refuse_capturing(leaves)
        if gradients:
            checks.gradients(gradients, leaves, structure, _missing(leaves))
            dropped.refuse_swapped(stored(gradients), leaves, made.first if made else None)
        state, plan = self.ready(leaves, structure), self.plan
        rowwise = places_of_rows(gradients) if sparse else frozenset()
        spread = self.spread
        in_parts = leaves if spread is None else spread.in_parts(leaves)
        engines = Engines(
            *(in_parts, state.slots, plan.assignment.layouts, structure.paths, plan.threads),
            rated=spread is not None,
            rowwise=rowwise,
        )
        arrays = leaves.wholes if type(leaves) is Pieces else leaves
        types, first = frozenset(map(type, (*arrays, None))), dropped.first_of(leaves)
        self._made = Prepared(engines, plan, structure, types, first)
        engines.look(leaves, plan.thawed(gradients) if gradients else gradients, sparse)
        return engines

    # ---- the state

    def require_state(self) -> None:
        """Refuse to go on where there is neither state nor a loaded record.

        Raises
        ------
        ValueError
            If there is none.
        """
        if self.state is None and self.pending is None:
            raise ValueError(
                f"{self.formula!r} has no state yet; call init(params) or take a step first"
            )

    def ready(self, leaves: Leaves, structure: Structure) -> State:
        """Return the state for some parameters, made if there is none yet.

        Raises
        ------
        RuntimeError
            If a step stopped halfway.
        TypeError, ValueError
            If the parameters cannot be stepped, or the state is of others.
        """
        if self.state is not None and self.state.interrupted:
            raise RuntimeError(
                "a step of this optimizer was interrupted half-way; load a checkpoint of "
                "parameters and optimizer, or reset() the optimizer"
            )
        if self.settings.models is not None and not isinstance(structure, Stack):
            raise ValueError(
                f"{self.formula!r}: this way of stepping serves one model; call apply() of the "
                "optimizer itself with arrays whose first axis counts the models"
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

    def forget_engines(self) -> None:
        """Have the next step choose engines again, as slots have been replaced."""
        self._made = None


def any_writable(leaves: Leaves) -> bool:
    """Whether a step writes into one of the parameters."""
    return any(leaf is not None and backend_of(leaf).writable(leaf) for leaf in leaves)


def _missing(leaves: Leaves) -> list[int]:
    return [i for i, x in enumerate(leaves) if x is None]


def session_of(optimizer: Any) -> Session:
    """Return the session of an optimizer."""
    found: Session = optimizer._session
    return found


def with_values(optimizer: Any, values: Mapping[str, Any]) -> Any:
    """Return an optimizer without state with other hyperparameters, which are not checked."""
    made = type(optimizer).from_config(optimizer.get_config())
    made._hyper = {**optimizer._hyper, **values}
    return made


def whole_or_nothing(session: Session, change: Callable[[], Done]) -> Done:
    """Call a function that changes state and hyperparameters; if it fails, nothing has changed."""
    before, hyper = dict(vars(session)), session.formula._hyper
    try:
        return change()
    except BaseException:
        vars(session).update(before)
        session.formula._hyper = hyper
        raise
