"""The order of one step, whatever carries it out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .._typing import Array, Namespace, Scalar
from ..engines import Step
from .clipping import Measured, fitted
from .plan import Plan
from .settings import Settings, Values
from .spikes import Seen, seen
from .state import Clock, State

Leaves = Sequence[Array | None]
Found = TypeVar("Found")


@dataclass(slots=True)
class Taken:
    """A step that was taken, for its report.

    Attributes
    ----------
    settings : Settings
        The hyperparameters as they were set.
    values : list of dict
        The hyperparameters of the step.
    size : Measured
        The size of the gradients.
    iterations : int
        Steps taken before.
    applied : bool
        Whether it was taken; False where it was left out.
    clocks : list of Clock
        The state's clocks as they are when their parameters have stepped.
    paths : sequence of str
        The paths of the parameters, where norms are reported.
    norms : mapping of str to sequence, optional
        The norms of updates and weights, where they are; those of gradients are in `size`.
    seen : Seen or None
        What the guards against spikes make of the step.
    left_out : array of bool, optional
        Which models were left out; None where all were taken.
    """

    settings: Settings
    values: Values
    size: Measured
    iterations: Any
    applied: bool = True
    clocks: Sequence[Clock] = ()
    paths: Sequence[str] = ()
    norms: Mapping[str, Sequence[Scalar | None]] | None = None
    seen: Seen | None = None
    left_out: Any = None

    @property
    def numbers(self) -> dict[str, Scalar]:
        """The scalar state that changes even where the step is skipped."""
        return {} if self.seen is None else self.seen.numbers


class Executor(ABC, Generic[Found]):
    """What carries out a step over some parameters and returns the outcome."""

    xp: Namespace
    leaves: Leaves

    @property
    def in_parts(self) -> Leaves:
        """The parameters, None for those that the step will bring together from parts."""
        return self.leaves

    @abstractmethod
    def values(self, settings: Settings, state: State) -> Values:
        """Return the hyperparameters of the step, schedules evaluated."""

    @abstractmethod
    def measured(self, settings: Settings, values: Values, gradients: Leaves) -> Measured:
        """Measure the gradients as far as the stages of the step need it."""

    @abstractmethod
    def totals(self, step: Step, gradients: Leaves) -> dict[int, list[Scalar]]:
        """Measure what the rule needs to know of each parameter, by its place."""

    def resident(self, gradients: Leaves) -> Any:
        """Return who keeps totals and scalar state on a device; None where the host knows them."""
        return None

    @abstractmethod
    def refuses(self, taken: Taken) -> bool:
        """Whether the step is skipped because a gradient is not finite, or a spike.

        Raises
        ------
        ValueError
            If that is to be an error.
        """

    @abstractmethod
    def skipped(self, taken: Taken) -> Found:
        """Skip the step."""

    @abstractmethod
    def carried_out(
        self, taken: Taken, steps: list[Step], gradients: Leaves, scalars: dict[str, Scalar]
    ) -> Found:
        """Do the arithmetic, and count the step."""


def take(plan: Plan, state: State, gradients: Leaves, executor: Executor[Found]) -> Found:
    """Take one step, in the one order that all executors share.

    Schedules are evaluated, gradients of frozen parameters left out, the others measured; the
    step is refused where they are not finite; its numbers are computed; gradients are clipped
    adaptively; the rest is the sweep, whose order is that of `arrayoptim.rules.stages`.

    Parameters
    ----------
    plan : Plan
        Settings, and who has which.
    state : State
        The state before the step.
    gradients : sequence of array or None
        A gradient for each parameter.
    executor : Executor
        What carries it out.

    Returns
    -------
    object
        What the executor makes of it.
    """
    settings = plan.settings
    values = executor.values(settings, state)
    given = plan.thawed(gradients) if settings.frozen else gradients
    size = executor.measured(settings, values, given)
    taken = Taken(settings, values, size, state.iterations)
    # Where no stage looks at all gradients and nobody has measured them, none of this is to do.
    if not settings.unmeasured or size.norm is not None:
        _judge(taken, state, given, executor)
        if executor.refuses(taken):
            taken.applied = False
            return executor.skipped(taken)
        if taken.left_out is not None:
            out = taken.left_out.tolist() * (len(given) // len(taken.left_out))
            given = [None if k else g for g, k in zip(given, out, strict=True)]
        if settings.whole["clipnorm"] is not None or settings.each:
            given, size = fitted(given, executor.leaves, size)

    if state.clocks:
        steps, taken.clocks = plan.numbers_by_clock(values, state, size, executor.xp)
        scalars = state.scalars
    else:

        def measure(step: Step) -> dict[int, list[Scalar]]:
            return executor.totals(step, plan.limited([step], executor.in_parts, given))

        keeper = executor.resident(given) if plan.assignment.totals else None
        steps, scalars = plan.numbers(values, state, size, executor.xp, measure, keeper)
    if taken.seen is not None:
        scalars = scalars | taken.numbers
    if settings.adaptive:
        given = plan.limited(steps, executor.in_parts, given)
    return executor.carried_out(taken, steps, given, scalars)


def _judge(taken: Taken, state: State, given: Leaves, executor: Executor[Found]) -> None:
    """Note what the report and the guards against spikes make of the size of the gradients."""
    settings, size = taken.settings, taken.size
    if settings.measures:
        taken.paths = state.paths
    if settings.guarded or settings.loss_guarded:
        some = any(g is not None for g in given)
        taken.seen = seen(taken.values[0], state.common(), size.true_norm, some, executor.xp)
