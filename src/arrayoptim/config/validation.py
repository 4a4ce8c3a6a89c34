"""Checks of numbers from callers and files."""

from __future__ import annotations

from typing import Any

import numpy as np

MOST_STEPS = 2**63 - 1
"""The largest step count that int64 holds."""


def finite(value: Any, what: str) -> float:
    """Return a finite number, given as a number or as an array of size 1.

    Raises
    ------
    ValueError
        If it is not a finite number.
    """
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in "iuf" or not np.isfinite(array):
        raise ValueError(f"{what}: found {value!r}, wanted a finite number")
    return float(array)


def flag(value: Any) -> Any:
    """Return a flag as a bool, if it is of a type that is commonly used for flags.

    Parameters
    ----------
    value : object
        None, or 0 or 1 as a bool or number of Python or NumPy; anything else is returned unchanged.
    """
    known = value is None or (isinstance(value, int | float | np.generic) and value in (0, 1))
    return bool(value) if known else value


def whole(value: Any, what: str, least: int) -> int:
    """Return an integer passed by a caller.

    Raises
    ------
    ValueError
        If it is not an integer, or smaller than `least`.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise ValueError(f"{what}: found {value!r}, wanted an integer of at least {least}")
    return int(value)


def counter(value: Any, what: str) -> int:
    """Return a step count, given as an int, or as a float or array with an integer value.

    Raises
    ------
    ValueError
        If it is not an integer in [0, `MOST_STEPS`].
    """
    array = np.asarray(value)
    fault = f"{what}: found {value!r}, wanted an integer of at least 0"
    if array.shape != () or array.dtype.kind not in "iuf":
        raise ValueError(fault)
    number = array.item()
    if not number >= 0 or number == float("inf") or number != int(number):
        raise ValueError(fault)
    if number > MOST_STEPS:
        raise ValueError(f"{what}: found {value!r}, wanted at most {MOST_STEPS}, the largest int64")
    return int(number)
