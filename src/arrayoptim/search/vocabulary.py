"""The scalar functions of a search: on Python numbers, or on arrays with one per problem.

A single problem outside of compiled functions uses Python numbers, at a tenth of the cost of 0-d
arrays. The formulas are the same.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any, ClassVar

import numpy as np

from .._typing import Array, Scalar
from ..arrays.backend import Backend


class Plain:
    """One problem, in Python numbers; its vectors are arrays of one axis."""

    batch: ClassVar[tuple[int, ...]] = ()

    def minimum(self, one: Any, other: Any) -> Any:
        """Return the smaller of two numbers."""
        return min(one, other)

    def maximum(self, one: Any, other: Any) -> Any:
        """Return the larger of two numbers."""
        return max(one, other)

    def magnitude(self, x: Any) -> Any:
        """Return the absolute value."""
        return abs(x)

    def where(self, condition: Any, one: Any, other: Any) -> Any:
        """Return one of two numbers or vectors."""
        return one if condition else other

    choose = where

    def negation(self, condition: Any) -> Any:
        """Return whether a condition does not hold."""
        return not condition

    def root(self, x: Any) -> Any:
        """Return the square root, 0 of negative numbers."""
        return math.sqrt(max(x, 0.0))

    def ratio(self, one: Any, other: Any) -> Any:
        """Return a quotient; NaN where it is undefined."""
        return one / other if other else math.nan

    def finite(self, x: Any) -> Any:
        """Return whether a number is finite."""
        return math.isfinite(x)

    def number(self, x: Any) -> Any:
        """Return a 0-d array as a number."""
        return float(x)

    def constant(self, value: Scalar) -> Any:
        """Return a number for every problem."""
        return value

    def column(self, x: Any) -> Any:
        """Return a number shaped to multiply a vector."""
        return x

    def nowhere(self, condition: Any) -> bool:
        """Return whether a condition is known to hold for no problem."""
        return not condition

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context without overflow warnings."""
        return np.errstate(all="ignore")


class Batch(Plain):
    """Several problems, or a compiled one: numbers are arrays with an entry for each problem."""

    def __init__(self, backend: Backend, batch: tuple[int, ...], dtype: str, like: Array) -> None:
        self.batch = batch  # type: ignore[misc]
        self._xp, self._like, self._dtype, self._backend = backend.xp, like, dtype, backend
        self._traced = backend.traced(like)
        self._constants: dict[float, Any] = {}

    def minimum(self, one: Any, other: Any) -> Any:
        """Return the smaller of two numbers, problem by problem."""
        return self._xp.where(one < other, one, other)

    def maximum(self, one: Any, other: Any) -> Any:
        """Return the larger of two numbers, problem by problem."""
        return self._xp.where(one > other, one, other)

    def magnitude(self, x: Any) -> Any:
        """Return absolute values."""
        return self._xp.abs(x)

    def where(self, condition: Any, one: Any, other: Any) -> Any:
        """Choose for each problem."""
        if not hasattr(one, "ndim") and not hasattr(other, "ndim"):
            one = self.constant(one)
        return self._xp.where(condition, one, other)

    def choose(self, condition: Any, one: Any, other: Any) -> Any:
        """Choose vectors, or stacks of them, for each problem."""
        axes = (None,) * (one.ndim - condition.ndim)
        return self._xp.where(condition[(..., *axes)], one, other)

    def negation(self, condition: Any) -> Any:
        """Return where a condition does not hold."""
        return self._xp.logical_not(condition)

    def root(self, x: Any) -> Any:
        """Return the square root, 0 of negative numbers."""
        return self._xp.sqrt(self._xp.where(x > 0, x, 0.0))

    def ratio(self, one: Any, other: Any) -> Any:
        """Return a quotient; NaN where it is undefined."""
        none = other == 0
        return self._xp.where(none, math.nan, one / self._xp.where(none, 1.0, other))

    def finite(self, x: Any) -> Any:
        """Return where numbers are finite."""
        return self._xp.isfinite(x)

    def number(self, x: Any) -> Any:
        """Return a number for each problem."""
        return self._xp.reshape(self._xp.astype(x, getattr(self._xp, self._dtype)), self.batch)

    def constant(self, value: Scalar) -> Any:
        """Return a number for every problem."""
        number = float(value)
        if number not in self._constants:
            made = self._backend.filled(self._like, self._dtype, self.batch, number)
            self._constants[number] = made
        return self._constants[number]

    def column(self, x: Any) -> Any:
        """Return numbers shaped to multiply vectors."""
        return x[..., None] if hasattr(x, "ndim") else x

    def nowhere(self, condition: Any) -> bool:
        """Return whether a condition is known to hold for no problem."""
        return not self._traced and not bool(self._xp.any(condition))
