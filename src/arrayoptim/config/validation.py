"""Numbers that a caller or a file gives, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

MOST_STEPS = 2**63 - 1
"""The last step that a 64-bit counter holds."""


def finite(value: Any, what: str) -> float:
    """Return a finite number, given as a number or as an array that holds one.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in "iuf" or not np.isfinite(array):
        raise ValueError(f"{what}: found {value!r}, wanted a finite number")
    return float(array)


def flag(value: Any) -> Any:
    """Return True or False for what stands for them where only the truth of a value is asked.

    Parameters
    ----------
    value : object
        None, or 0 or 1 as a bool or a number of Python or NumPy; anything else comes back.
    """
    known = value is None or (isinstance(value, int | float | np.generic) and value in (0, 1))
    return bool(value) if known else value


def whole(value: Any, what: str, least: int) -> int:
    """Return a whole number that a caller gives.

    Raises
    ------
    ValueError
        If it is anything else, or smaller than `least`.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise ValueError(f"{what}: found {value!r}, wanted a whole number of at least {least}")
    return int(value)


def counter(value: Any, what: str) -> int:
    """Return a step counter, given as an integer, or as a float or array that holds one.

    Raises
    ------
    ValueError
        If it is no whole number from 0 to `MOST_STEPS`.
    """
    array = np.asarray(value)
    fault = f"{what}: found {value!r}, wanted a whole number of at least 0"
    if array.shape != () or array.dtype.kind not in "iuf":
        raise ValueError(fault)
    number = array.item()
    if not number >= 0 or number == float("inf") or number != int(number):
        raise ValueError(fault)
    if number > MOST_STEPS:
        raise ValueError(f"{what}: found {value!r}, wanted at most {MOST_STEPS}, as int64 holds")
    return int(number)
