"""Intervals of real numbers."""

from __future__ import annotations

from ctypes import c_float
from functools import cache
from typing import Any

import numpy as np


class Interval:
    """A real interval, such as ``[0, 1)``."""

    def __init__(self, text: str) -> None:
        self.text = text
        low, high = text[1:-1].split(",")
        self.low, self.high = float(low), float(high)
        self._from, self._to = text[0] == "[", text[-1] == "]"

    def __contains__(self, value: float) -> bool:
        """Whether the value lies in the interval; NaN never does."""
        above = value >= self.low if self._from else value > self.low
        return above and (value <= self.high if self._to else value < self.high)


class Anything(Interval):
    """All numbers, infinite ones and NaN too, for what another library does not check."""

    def __init__(self) -> None:
        super().__init__("[-inf, inf]")

    def __contains__(self, value: float) -> bool:
        """Return True, whatever the number is."""
        return True


ANYTHING = Anything()


@cache
def largest_in(dtype: str, interval: Interval) -> float:
    """Return the largest number in an interval that a dtype can represent."""
    high = np.dtype(dtype).type(interval.high)
    return float(high if interval.high in interval else np.nextafter(high, 0))


@cache
def smallest_in(dtype: str, interval: Interval) -> float:
    """Return the smallest number in an interval that a dtype can represent."""
    low = np.dtype(dtype).type(interval.low)
    with np.errstate(under="ignore"):
        return float(low if interval.low in interval else np.nextafter(low, np.inf))


def nearest_in(value: Any, dtype: str, interval: Interval) -> Any:
    """Return the number nearest to a value in an interval that float32 or float64 can represent.

    For an array, elementwise.
    """
    if isinstance(value, np.ndarray):
        with np.errstate(over="ignore", under="ignore"):
            row = value.astype(dtype).astype(np.float64)
        least, most = _ends(dtype, interval)
        return np.maximum(np.minimum(row, most), least)
    # ctypes rounds like NumPy in a tenth of the time; schedules have a new value at every step.
    near = c_float(value).value if dtype == "float32" else float(value)
    low, high = _ends(dtype, interval)
    return high if near > high else low if near < low else near


@cache
def _ends(dtype: str, interval: Interval) -> tuple[float, float]:
    return smallest_in(dtype, interval), largest_in(dtype, interval)
