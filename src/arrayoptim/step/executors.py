"""Executors of a step: in place, with prepared engines; or as a pure function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from .._typing import Array, Namespace, Scalar
from ..arrays.libraries import Backend, is_array
from ..arrays.rows import stored
from ..config.per_model import several
from ..engines import Act, Engines, Once, Step, carry_out, hosted, measure, sweep
from ..gradients import Pending
from .clipping import Measured, measured, measured_in_parts
from .plan import limited_where_wanted
from .reported_norms import any_on_device, gradient_norms, kept, update_and_weight
from .settings import Settings, Values
from .sharding import Spread, rated, totals_of
from .state import State
from .take import Executor, Leaves, Taken

_UNMEASURED = Measured()


def not_finite(taken: Taken) -> bool:
    """Whether a step is skipped due to a NaN or infinite gradient entry; see `Executor.refuses`."""
    norm, whole = taken.size.norm, taken.settings.whole
    if norm is None or whole["nonfinite"] == "ignore":
        return False
    left_out = ~np.isfinite(norm if several(norm) else float(norm))
    if not left_out.any():
        return False
    if whole["nonfinite"] == "raise":
        of = f" of models {np.flatnonzero(left_out).tolist()}" if several(norm) else ""
        raise ValueError(
            f"{whole['name'] or type(taken.settings.formula).__name__}: a gradient{of} has a NaN "
            f"or infinite entry at step {taken.iterations}; nothing has changed"
        )
    if not left_out.all():
        taken.left_out = left_out
        return False
    return True


def left_out(taken: Taken) -> bool:
    """Whether a step is skipped, due to a NaN, infinity or spike; see `Executor.refuses`."""
    return not_finite(taken) or (taken.seen is not None and bool(taken.seen.spike))


def measured_where_wanted(
    settings: Settings,
    values: Values,
    gradients: Leaves,
    engines: Engines | None = None,
    unscale: float = 1.0,
    norm: Scalar | Pending | None = None,
    spread: Spread | None = None,
) -> Measured:
    """Compute the norms of the gradients that the stages of the step need.

    Parameters
    ----------
    settings : Settings
        The hyperparameters.
    values : list of dict
        The hyperparameters of the step.
    gradients : sequence of array or None
        The gradients.
    engines : Engines, optional
        Engines that have looked at the gradients.
    unscale : float
        Factor that removes the loss scale.
    norm : scalar or Pending, optional
        A global norm over more gradients than these, if the caller has computed one.
    spread : Spread, optional
        How the gradients are sharded over processes.
    """
    whole = values[0]
    stays = whole["nonfinite"] == "ignore" and not settings.guarded
    each = settings.each or "gradient" in settings.measures
    if stays and whole["clipnorm"] is None and norm is None and not each:
        return _UNMEASURED if unscale == 1.0 else Measured(unscale=unscale)
    if spread is not None:
        known = engines.squares() if engines is not None else {}
        return measured_in_parts(gradients, known, spread, each, unscale, norm)
    # The host decides whether to go on, and unscales the norm, so it needs the norm now.
    waits = unscale != 1.0 or not stays or settings.models is not None
    if isinstance(norm, Pending):
        if engines is not None and not waits and engines.by_kernels(gradients):
            if not each:
                return Measured(norm)
            own = engines.norm(gradients, True) if settings.each else None
            if own is not None:
                return Measured(replace(own, norm=norm.norm, read=norm.read))
        assert norm.read is not None
        norm = norm.read()
    waits = waits or norm is not None
    unread = each and not (waits or settings.each) and any_on_device(stored(gradients))
    norms = gradient_norms(gradients) if unread else None
    if engines is not None and not waits and (unread or settings.each or not each):
        pending = engines.norm(gradients, settings.each)
        if pending is not None:
            return Measured(pending, norms)
    if norms is not None and whole["clipnorm"] is None:
        return Measured(None, norms)
    squares = engines.squares() if engines and (norm is None or each) else None
    return measured(stored(gradients), squares, each, unscale, norm, settings.models)


class InPlace(Executor[Leaves]):
    """Steps the parameters that can be written in place, and commits the new state.

    Parameters
    ----------
    engines : Engines
        Engines that have looked at the parameters and gradients.
    leaves : sequence of array or None
        The parameters.
    state : State
        The state that the step changes.
    commit : callable
        Records the step that was taken.
    unscale : float
        Factor that removes the loss scale from the gradients.
    norm : scalar or Pending, optional
        A global norm over more gradients than these, if the caller has computed one.
    spread : Spread, optional
        How the arrays are sharded over processes.
    """

    xp: Namespace = np

    def __init__(
        self,
        engines: Engines,
        leaves: Leaves,
        state: State,
        commit: Callable[[Taken, Leaves], None],
        unscale: float = 1.0,
        norm: Scalar | Pending | None = None,
        spread: Spread | None = None,
    ) -> None:
        self.engines, self.leaves, self.state = engines, leaves, state
        self.commit, self.unscale, self.norm, self.spread = commit, unscale, norm, spread

    @property
    def by_arrays(self) -> Leaves:
        """The parameters whose units array functions clip; see `Executor`."""
        leaves = self.engines.by_arrays(self.leaves)
        return leaves if self.spread is None else self.spread.in_parts(leaves)

    def values(self, settings: Settings, state: State) -> Values:
        """Return the hyperparameters of the step; see `Executor`."""
        if settings.fixed is not None:
            return settings.fixed
        at = state.iterations if state.models is None else state.models.iterations
        return settings.at(at, state.scalars)

    def measured(self, settings: Settings, values: Values, gradients: Leaves) -> Measured:
        """Return the norms of the gradients; see `Executor`."""
        if settings.unmeasured and self.unscale == 1.0 and self.norm is None:
            return _UNMEASURED
        return measured_where_wanted(
            *(settings, values, gradients, self.engines, self.unscale, self.norm, self.spread)
        )

    def totals(self, step: Step, gradients: Leaves) -> dict[int, list[Scalar]]:
        """Return the totals of each parameter; see `Executor`."""
        found = self.engines.totals(step, self.leaves, gradients, self.state.slots)
        if self.spread is None:
            return found
        if wholes := self.spread.wholes:
            apart = [g if i in wholes else None for i, g in enumerate(gradients)]
            found |= measure(step, self.leaves, apart, self.state.slots)
        return totals_of(self.spread, step.layout.rule, dict(sorted(found.items())))

    def resident(self, gradients: Leaves) -> Any:
        """Return who keeps totals and scalar state on a device; see `Executor`."""
        return None if self.spread is not None else self.engines.resident(gradients)

    def refuses(self, taken: Taken) -> bool:
        """Whether the step is skipped; see `Executor`."""
        return left_out(taken)

    def skipped(self, taken: Taken) -> Leaves:
        """Skip the step, and count it as skipped."""
        norm: Any = taken.size.norm
        left_out = not_finite(taken) * (len(norm) if several(norm) else 1)
        skipped = self.state.skipped + left_out

        def commit() -> None:
            self.state.skipped = skipped
            if taken.seen is not None:
                self.state.share(taken.numbers)
            self.commit(taken, self.leaves)

        carry_out([commit], self.state.interrupt)
        return self.leaves

    def carried_out(
        self, taken: Taken, steps: list[Step], gradients: Leaves, scalars: dict[str, Scalar]
    ) -> Leaves:
        """Take the step atomically and return the new parameters."""
        engines, state, spread = self.engines, self.state, self.spread
        given, plain = gradients, steps
        watched = taken.settings.watched
        # Copied before anything changes, as the allocation may fail.
        before = kept(self.leaves, state.slots, given) if "update" in watched else self.leaves
        if spread is not None:
            steps = [self._rated(step, gradients) for step in steps]
            gradients = spread.in_parts(gradients)
        acts = [state.interrupt, *engines.ready(steps, self.leaves, gradients)]
        rest = None
        if engines.others:
            rest = engines.rest(steps, self.leaves, gradients, state.slots)
            acts.append(rest)
        if spread is not None and spread.wholes:
            acts.append(Once(partial(self._step_wholes, taken.settings, plain, given)))
        clocks = state.ticked(given, taken.clocks) if taken.clocks else None

        if watched:
            acts.append(self._watching(taken, before, rest))

        def commit() -> None:
            if rest is not None:
                state.slots = rest.slots
            state.iterations = taken.iterations + 1
            if clocks is not None:
                state.clocks, state.clock_of = clocks
            if state.models is None:
                state.scalars = scalars
            else:
                state.step_models(scalars, taken.left_out)
            if taken.seen is not None:
                state.share(taken.numbers)
            self.commit(taken, self.leaves if rest is None else rest.params)
            state.interrupted = False

        acts.append(commit)
        carry_out(acts, state.interrupt)
        return self.leaves if rest is None else rest.params

    def _watching(self, taken: Taken, before: Leaves, rest: Any) -> Act:
        """Return the act that computes norms after a step, given the parameters before it."""

        def watch() -> None:
            leaves, slots = self.leaves, self.state.slots
            if rest is not None:
                leaves, slots = rest.params, rest.slots
            watched = taken.settings.watched
            taken.norms = update_and_weight(watched, before, leaves, slots, self.spread)

        # With collective communication it must not run a second time.
        return watch if self.spread is None else Once(watch)

    def _rated(self, step: Step, gradients: Leaves) -> Step:
        """Return a step whose coefficients include those derived from totals over all shards."""
        rule = step.layout.rule
        if rule.ratio is None or self.spread is None:
            return step
        found = self.engines.totals(step, self.leaves, gradients, self.state.slots)
        parts = {i: row for i, row in found.items() if i not in self.spread.wholes}
        return rated(step, self.state.leaves, totals_of(self.spread, rule, parts))

    def _step_wholes(self, settings: Settings, steps: Sequence[Step], gradients: Leaves) -> None:
        step_of = {i: step for step in steps for i in step.places}
        count = len(self.leaves)

        def whole(
            i: int, p: Array, g: Array, slots: dict[str, Array]
        ) -> tuple[Array, dict[str, Array]]:
            def alone(x: Any, others: Any = None) -> list[Any]:
                return [x if k == i else others for k in range(count)]

            step = replace(step_of[i], places=(i,))
            given = limited_where_wanted(settings, [step], alone(p), alone(g))
            new, held = sweep(step, alone(p), given, alone(slots, {}))
            return new[i], held[i]

        assert self.spread is not None
        self.spread.step_wholes(self.leaves, gradients, self.state.slots, whole)


class Pure(Executor["tuple[Leaves, list[dict[str, Array]], dict[str, Scalar]] | None"]):
    """Computes the result of a step without changing anything; None if the step is skipped.

    Parameters
    ----------
    leaves : sequence of array or None
        The parameters.
    slots : sequence of dict
        Their slots.
    values : list of dict
        The hyperparameters of the step.
    compiler : Backend, optional
        The library that may be tracing the step.
    offload : bool
        Whether parameters on a GPU are stepped on the host.
    """

    def __init__(
        self,
        leaves: Leaves,
        slots: Sequence[dict[str, Array]],
        values: Values,
        compiler: Backend | None = None,
        offload: bool = False,
    ) -> None:
        self._values, self._slots, self._compiler, self._offload = values, slots, compiler, offload
        self.leaves, self.xp = leaves, np if compiler is None else compiler.xp
        self.beside = beside_state(leaves, offload)
        self.size = _UNMEASURED
        self.taken: Taken | None = None

    def values(self, settings: Settings, state: State) -> Values:
        """Return the hyperparameters of the step; see `Executor`."""
        return self._values

    def measured(self, settings: Settings, values: Values, gradients: Leaves) -> Measured:
        """Return the norms of the gradients; see `Executor`."""
        self.size = measured_where_wanted(settings, values, gradients)
        return self.size

    def traced(self, taken: Taken) -> bool:
        """Whether the norm or loss that decides whether to skip the step is a tracer."""
        deciding = taken.size.norm, None if taken.seen is None else taken.seen.spike
        return any(map(self._is_traced, deciding))

    def _is_traced(self, x: Any) -> bool:
        compiler = self._compiler
        return compiler is not None and is_array(x) and compiler.traced(x)

    def totals(self, step: Step, gradients: Leaves) -> dict[int, list[Scalar]]:
        """Return the totals of each parameter; see `Executor`."""
        return measure(step, self.beside, beside_state(gradients, self._offload), self._slots)

    def refuses(self, taken: Taken) -> bool:
        """Whether the step is skipped; see `Executor`. A traced step never is."""
        if not self.traced(taken):
            return left_out(taken)
        if taken.settings.whole["nonfinite"] == "raise" and self._is_traced(taken.size.norm):
            raise ValueError(
                'nonfinite="raise" cannot raise from a compiled or differentiated step; use '
                '"skip" and read state["skipped"]'
            )
        return False

    def skipped(self, taken: Taken) -> None:
        """Do nothing: the caller handles the state of the spike guards."""
        self.taken = taken

    def carried_out(
        self, taken: Taken, steps: list[Step], gradients: Leaves, scalars: dict[str, Scalar]
    ) -> tuple[Leaves, list[dict[str, Array]], dict[str, Scalar]]:
        """Return new parameters, new slots, and the next scalar state."""
        self.taken = taken
        given = beside_state(gradients, self._offload)
        leaves, slots = self.beside, list(self._slots)
        for step in steps:
            leaves, slots = sweep(step, leaves, given, slots)
        watched = taken.settings.watched
        if watched:
            before = kept(self.beside, self._slots, given) if "update" in watched else leaves
            taken.norms = update_and_weight(watched, before, leaves, slots)
        return leaves, slots, scalars


def beside_state(arrays: Leaves, offload: Any) -> Leaves:
    """Return arrays in the memory where the state is: host memory with `offload`."""
    return [None if x is None else hosted(x) for x in arrays] if offload else arrays
