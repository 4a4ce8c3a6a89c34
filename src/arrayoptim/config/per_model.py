"""Hyperparameters with one value per model of a population."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._typing import Scalar
from .registry import describe
from .scheduled import after_metric, first_numbers, keeps_numbers, value_at


class Row(np.ndarray):
    """Numbers in double precision, one per model.

    Arithmetic on rows is bit-identical to that on single floats: powers, which NumPy computes
    differently for arrays, are computed one by one.
    """

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        """Return the powers, computed one by one."""
        return one_by_one(_power, self, other)

    def __rpow__(self, other: Any, modulo: Any = None) -> Any:
        """Return the powers, computed one by one."""
        return one_by_one(_power, other, self)


def row(values: Any) -> Row:
    """Return numbers as a row."""
    return np.array(values, np.float64).view(Row)


def repeated(value: Any, models: int) -> Row:
    """Return a row unchanged, or a number repeated for each model."""
    return row(np.broadcast_to(np.asarray(value, np.float64), (models,)))


def one_by_one(function: Callable[..., float], *values: Any) -> Row:
    """Call a function of floats for each model; arguments other than rows are shared."""
    count = max(len(v) for v in values if several(v))
    columns = [v.tolist() if several(v) else [v] * count for v in values]
    return row([function(*numbers) for numbers in zip(*columns, strict=True)])


def several(value: Any) -> bool:
    """Whether a per-step value has one entry per model."""
    return isinstance(value, np.ndarray) and value.ndim == 1


def _power(base: float, exponent: float) -> float:
    return float(np.float64(base) ** exponent)


class Each(tuple[Any, ...]):
    """The values of a hyperparameter for each model: numbers and schedules.

    An `Each` is itself a schedule, whose value is a `Row`. It has the state of all its schedules,
    with the model's index as prefix of each name.
    """

    _known: Row

    def __new__(cls, values: Sequence[Any]) -> Each:
        """Make an instance from checked values; `EachKeeping` if some are schedules with state."""
        kind = EachKeeping if any(map(keeps_numbers, values)) else Each
        self = super().__new__(kind, values)
        if not any(map(callable, values)):
            self._known = row(values)
            self._known.flags.writeable = False
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Return the arguments from which a copy is made."""
        return (tuple(self),)

    def __call__(self, iterations: Any, scalars: Mapping[str, Scalar] | None = None) -> Row:
        """Return the values at a step, or each at its own model's step."""
        if "_known" in vars(self):
            return self._known
        steps = iterations.tolist() if several(iterations) else [iterations] * len(self)
        return row(
            [
                value_at(value, int(step), scalars or {}, f"{i}.") if callable(value) else value
                for i, (value, step) in enumerate(zip(self, steps, strict=True))
            ]
        )

    def __repr__(self) -> str:
        """Return the values as a list."""
        return repr(list(self))

    def get_config(self) -> list[Any]:
        """Return the values in the form of a configuration."""
        return [describe(value) for value in self]


class EachKeeping(Each):
    """Values of which some are schedules with state."""

    def initial_scalars(self) -> dict[str, float]:
        """Return the initial state of all schedules with state."""
        return first_numbers((f"{i}.", v) for i, v in enumerate(self) if keeps_numbers(v))

    def observed(self, scalars: Mapping[str, Scalar], metric: Any) -> dict[str, Scalar]:
        """Return the state after a metric, or after one metric per model."""
        metrics = metric.tolist() if several(metric) else [metric] * len(self)
        fed = ((f"{i}.", v, metrics[i]) for i, v in enumerate(self) if keeps_numbers(v))
        return after_metric(fed, scalars)
