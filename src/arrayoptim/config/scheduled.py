"""Schedules as values of hyperparameters: functions of the step count, some with scalar state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .._typing import Scalar
from ..arrays.calls import mismatch


def is_function(value: Any) -> bool:
    """Whether a value may be a schedule: callable, and neither a number nor a class."""
    return callable(value) and not isinstance(value, type) and not hasattr(value, "__float__")


def keeps_numbers(schedule: Any) -> bool:
    """Whether a value is a schedule with scalar state of its own, besides the step count."""
    return callable(schedule) and hasattr(schedule, "initial_scalars")


def first_numbers(owners: Iterable[tuple[str, Any]]) -> dict[str, float]:
    """Return the initial scalar state of schedules or optimizers, with each owner's prefix."""
    return {
        prefix + name: value
        for prefix, owner in owners
        for name, value in owner.initial_scalars().items()
    }


def after_metric(
    fed: Iterable[tuple[str, Any, Scalar]], scalars: Mapping[str, Scalar]
) -> dict[str, Scalar]:
    """Return the scalar state after a metric was passed to schedules.

    Parameters
    ----------
    fed : iterable of (str, callable, scalar)
        The prefix of each schedule's state, the schedule, and the metric.
    scalars : mapping of str to scalar
        The state before the metric.
    """
    new = dict(scalars)
    for prefix, schedule, metric in fed:
        own = {name: scalars[prefix + name] for name in schedule.initial_scalars()}
        new |= {prefix + name: v for name, v in schedule.observed(own, metric).items()}
    return new


def with_step(schedule: Any, what: str) -> Any:
    """Return a schedule that can be called with the arguments that `value_at` passes.

    Raises
    ------
    TypeError
        If it cannot be called with these arguments.
    """
    wanted = ("the step number", "its numbers")[: 1 + keeps_numbers(schedule)]
    fault = mismatch(schedule, *wanted)
    if fault:
        raise TypeError(
            f"{what}: found the schedule {schedule!r}, wanted a function of "
            f"{' and '.join(wanted)}, such as lambda step: 0.1 ({fault})"
        )
    return schedule


def value_at(
    schedule: Any, iterations: Scalar, scalars: Mapping[str, Scalar], prefix: str
) -> Scalar:
    """Return the value of a schedule at a step.

    Parameters
    ----------
    schedule : callable
        A function of the step number; with ``initial_scalars``, of its own numbers too.
    iterations : int
        The step number, counted from 0.
    scalars : mapping of str to float
        Scalar state of the optimizer.
    prefix : str
        Prefix of the schedule's own state.
    """
    if not keeps_numbers(schedule):
        return schedule(iterations)
    start = schedule.initial_scalars()
    return schedule(iterations, {k: scalars.get(prefix + k, v) for k, v in start.items()})
