"""The order of one step, for all executors."""

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
    """A step, for its report.

    Attributes
    ----------
    settings : Settings
        The hyperparameters as they were set.
    values : list of dict
        The hyperparameters of the step, schedules evaluated.
    size : Measured
        The norms of the gradients.
    iterations : int
        Steps taken before it.
    applied : bool
        Whether it was taken; False if it was skipped.
    clocks : list of Clock
        Each clock of the state as it will be once its parameters have stepped.
    paths : sequence of str
        The paths of the parameters, if norms are reported.
    norms : mapping of str to sequence, optional
        The norms of updates and weights, if computed; those of gradients are in `size`.
    seen : Seen or None
        The verdict of the spike guards.
    left_out : array of bool, optional
        Which models were skipped; None if all were stepped.
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
        """The scalar state that changes even if the step is skipped."""
        return {} if self.seen is None else self.seen.numbers


class Executor(ABC, Generic[Found]):
    """Carries out a step over some parameters and returns the result."""

    xp: Namespace
    leaves: Leaves

    @property
    def by_arrays(self) -> Leaves:
        """The parameters whose units array functions clip, None in the place of others.

        It is empty if there are none: kernels clip those that they step, and what is gathered is
        clipped whole.
        """
        return self.leaves

    @abstractmethod
    def values(self, settings: Settings, state: State) -> Values:
        """Return the hyperparameters of the step, schedules evaluated."""

    @abstractmethod
    def measured(self, settings: Settings, values: Values, gradients: Leaves) -> Measured:
        """Return the norms of the gradients that the stages of the step need."""

    @abstractmethod
    def totals(self, step: Step, gradients: Leaves) -> dict[int, list[Scalar]]:
        """Return the totals of each parameter that the rule needs, by index."""

    def resident(self, gradients: Leaves) -> Any:
        """Return who keeps totals and scalar state on a device; None where the host knows them."""
        return None

    @abstractmethod
    def refuses(self, taken: Taken) -> bool:
        """Whether the step is skipped because a gradient is not finite, or a spike.

        Raises
        ------
        ValueError
            If the options ask to raise instead of skipping.
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

    Schedules are evaluated; gradients of frozen parameters are dropped and the norms of the rest
    computed; the step is refused if they are not finite; the per-step scalars are computed;
    gradients are clipped adaptively; the rest is the sweep, in the order of
    `arrayoptim.rules.stages`.

    Parameters
    ----------
    plan : Plan
        Settings and their assignment to parameters.
    state : State
        The state before the step.
    gradients : sequence of array or None
        The gradient of each parameter.
    executor : Executor
        Carries out the step.

    Returns
    -------
    object
        The result of the executor.
    """
    settings = plan.settings
    values = executor.values(settings, state)
    given = plan.thawed(gradients) if settings.frozen else gradients
    size = executor.measured(settings, values, given)
    taken = Taken(settings, values, size, state.iterations)
    # Only needed if some stage uses the norms, or the caller has computed the global norm.
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
            return executor.totals(step, plan.limited([step], executor.by_arrays, given))

        keeper = executor.resident(given) if plan.assignment.totals else None
        steps, scalars = plan.numbers(values, state, size, executor.xp, measure, keeper)
    if taken.seen is not None:
        scalars = scalars | taken.numbers
    if settings.adaptive:
        given = plan.limited(steps, executor.by_arrays, given)
    return executor.carried_out(taken, steps, given, scalars)


def _judge(taken: Taken, state: State, given: Leaves, executor: Executor[Found]) -> None:
    """Record the norms of the gradients, and let the spike guards judge them."""
    settings, size = taken.settings, taken.size
    if settings.measures:
        taken.paths = state.paths
    if settings.guarded or settings.loss_guarded:
        some = any(g is not None for g in given)
        taken.seen = seen(taken.values[0], state.common(), size.true_norm, some, executor.xp)
