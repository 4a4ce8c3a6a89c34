"""A session: takes the steps of one optimizer, and holds what they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from .._typing import Scalar, Tree
from ..arrays.identity import same_objects
from ..arrays.libraries import backend_of
from ..arrays.per_model import Pieces
from ..arrays.rows import places_of_rows, stored
from ..arrays.trees import Structure, flatten
from ..engines import Engines, refuse_capturing
from ..gradients import Pending, global_norm
from . import checks, unused_results
from .clipping import norms_together
from .executors import InPlace
from .fingerprint import require_same
from .memory import Memory
from .per_model import Stack, require_writable, split
from .prepared import Prepared
from .sparse import in_rows, settled
from .take import Leaves, Taken, take

Done = TypeVar("Done")


class Session(Memory):
    """Takes the steps of one optimizer, given what `Memory` holds.

    Wrappers and adapters use it through `session_of`.
    """

    def flat(self, tree: Tree) -> tuple[Leaves, Structure]:
        """Return the leaves of a tree and its structure, split into pieces with `models`.

        Raises
        ------
        TypeError, ValueError
            If a leaf is not an array, or its first axis does not count the models.
        """
        return self._own(*flatten(tree))

    def _own(self, leaves: Leaves, structure: Structure) -> tuple[Leaves, Structure]:
        """Return the parameters to step, given a flattened tree; see `flat`."""
        if self.settings.models is None:
            return leaves, structure
        require_writable(leaves, structure)
        pieces, stack = self.pieces(leaves, structure)
        if self.expected is not None:
            require_same(self.expected, leaves, structure.paths)
            self.expected = None
        return pieces, stack

    def pieces(self, leaves: Leaves, structure: Structure) -> tuple[Leaves, Structure]:
        """Return the arrays of each model, and their structure; unchanged without `models`."""
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
            Factor that removes the loss scale from the gradients.
        done : callable, optional
            Called with the parameters after the step, as part of the transaction.
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
                leaves, structure = self._own(leaves, structure)
                found, _ = self.pieces(found, other)
        with self.lock:
            # If all parameters are replaced by new arrays, an interrupt loses these: roll back.
            restore = None if done or any_writable(leaves) else self.snapshot()
            try:
                new = self.take(found, leaves, structure, unscale, done=self._telling(done, params))
                if new is leaves or same_objects(new, leaves):
                    return params
                unused_results.note(self.formula, leaves, new)
                return structure.build(new)
            except BaseException:
                if restore is not None:
                    restore()
                raise

    def _telling(
        self, done: Callable[[Leaves], object] | None, params: Tree
    ) -> Callable[[Leaves], object] | None:
        """Return the callback for after a step, which is passed whole arrays instead of pieces."""
        if done is None or self.settings.models is None:
            return done
        whole = flatten(params)[0]
        return lambda _: done(whole)

    def _again(
        self,
        made: Prepared,
        grads: Tree,
        params: Tree,
        unscale: float,
        done: Callable[[Leaves], object] | None,
    ) -> bool:
        """Take a step like the last one, and return whether that was possible.

        If anything differs from the last step, nothing is done: the general path then checks
        the arguments and raises the errors.
        """
        trees, state = made.apart(params, grads), self.state
        if trees is None or state is None or self._valid(made.structure) is None:
            return False
        plan, (leaves, gradients) = made.plan, trees
        before = state.mark
        given = plan.thawed(gradients) if plan.settings.frozen else gradients
        try:
            if not (made.engines.quick(leaves, given) or made.look(leaves, given)):
                return False
            told = done if done is None else self._telling(done, params)
            commit = self.note if told is None else self._noting(told)
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
        norm: Scalar | Pending | None = None,
        done: Callable[[Leaves], object] | None = None,
        sparse: bool = True,
        engines: Engines | None = None,
    ) -> Leaves:
        """Check and step, with a norm that the caller has taken over more gradients than these.

        No gradient is looked at for being sparse where the caller knows that none is, and nothing
        is checked that engines from `known` have checked.
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
            if engines is None:
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

    def _valid(self, structure: Structure) -> Prepared | None:
        """Return what the last step prepared, if it is valid for the next one."""
        made, state = self._made, self.state
        if made is None or state is None or state.interrupted:
            return None
        return made if made.holds(self.plan, structure) else None

    def known(
        self, leaves: Sequence[Any], structure: Structure, gradients: Sequence[Any]
    ) -> Engines | None:
        """Return the engines if machine code finds all arrays as in the last step, types included.

        Parameters
        ----------
        leaves, gradients : sequence of object
            Parameters and gradients, or any objects in their places.
        structure : Structure
            The structure of the parameters.

        Returns
        -------
        Engines or None
            The engines, which have looked at the gradients; None if others are needed, or the
            arrays have to be checked one by one.
        """
        with self.lock:
            made = self._valid(structure)
            if made is None or made.engines.others:
                return None
            given = made.plan.thawed(gradients)
            return made.engines if made.engines.quick(leaves, given) else None

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
        made = self._valid(structure)
        if made is not None:
            given = made.plan.thawed(gradients) if gradients else gradients
            # An engine knows address, shape and dtype of every parameter that it serves.
            if made.engines.look(leaves, given, sparse):
                if made.engines.others:
                    self.ready(leaves, structure)
                return made.engines
        refuse_capturing(leaves)
        if gradients:
            checks.gradients(gradients, leaves, structure, _missing(leaves))
            unused_results.refuse_swapped(stored(gradients), leaves, made.first if made else None)
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
        types, first = frozenset(map(type, (*arrays, None))), unused_results.first_of(leaves)
        self._made = Prepared(engines, plan, structure, types, first)
        engines.look(leaves, plan.thawed(gradients) if gradients else gradients, sparse)
        return engines


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
    made = optimizer.again()
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
