"""A value for each model of a population, as numbers that a step computes with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._typing import Scalar
from .registry import describe
from .scheduled import after_metric, first_numbers, keeps_numbers, value_at


class Row(np.ndarray):
    """Numbers in double precision, one for each model.

    They come out of arithmetic with the bits that a number by itself would: powers, which NumPy
    computes otherwise for arrays, are taken one by one.
    """

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        """Return the powers, one by one."""
        return one_by_one(_power, self, other)

    def __rpow__(self, other: Any, modulo: Any = None) -> Any:
        """Return the powers, one by one."""
        return one_by_one(_power, other, self)


def row(values: Any) -> Row:
    """Return numbers as a row."""
    return np.array(values, np.float64).view(Row)


def repeated(value: Any, models: int) -> Row:
    """Return a row as it is, or a number as that of so many models."""
    return row(np.broadcast_to(np.asarray(value, np.float64), (models,)))


def one_by_one(function: Callable[..., float], *values: Any) -> Row:
    """Call a function of numbers for each model; numbers that are no rows are the same for all."""
    count = max(len(v) for v in values if several(v))
    columns = [v.tolist() if several(v) else [v] * count for v in values]
    return row([function(*numbers) for numbers in zip(*columns, strict=True)])


def several(value: Any) -> bool:
    """Whether a value of a step is a number for each model."""
    return isinstance(value, np.ndarray) and value.ndim == 1


def _power(base: float, exponent: float) -> float:
    return float(np.float64(base) ** exponent)


class Each(tuple[Any, ...]):
    """What a hyperparameter is for each model: numbers and schedules.

    It is a schedule itself, whose value is a `Row`, and which keeps the numbers that its schedules
    keep, with the number of the model before their names.
    """

    _known: Row

    def __new__(cls, values: Sequence[Any]) -> Each:
        """Take checked values; those with schedules that keep numbers are of the class for that."""
        kind = EachKeeping if any(map(keeps_numbers, values)) else Each
        self = super().__new__(kind, values)
        if not any(map(callable, values)):
            self._known = row(values)
            self._known.flags.writeable = False
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Return what a copy is made from."""
        return (tuple(self),)

    def __call__(self, iterations: Any, scalars: Mapping[str, Scalar] | None = None) -> Row:
        """Return the values at a step, or each at the step of its own model."""
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
        """Return it as a list."""
        return repr(list(self))

    def get_config(self) -> list[Any]:
        """Return the values as a configuration holds them."""
        return [describe(value) for value in self]


class EachKeeping(Each):
    """Such values, with schedules that keep numbers."""

    def initial_scalars(self) -> dict[str, float]:
        """Return the numbers of all schedules that keep some."""
        return first_numbers((f"{i}.", v) for i, v in enumerate(self) if keeps_numbers(v))

    def observed(self, scalars: Mapping[str, Scalar], metric: Any) -> dict[str, Scalar]:
        """Return these numbers after a metric, or one for each model."""
        metrics = metric.tolist() if several(metric) else [metric] * len(self)
        fed = ((f"{i}.", v, metrics[i]) for i, v in enumerate(self) if keeps_numbers(v))
        return after_metric(fed, scalars)
