"""Totals over the elements of tensors, and the coefficients that follow for each tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._typing import Array, Scalar
from ..arrays.libraries import Backend
from ..gradients import scaled_norm, square_sum, value_sum, widened
from ..rules.rule import Rule

__all__ = ["part", "ratio", "totals"]


def part(numbers: Mapping[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """Return the numbers of some tensors, where each tensor has its own.

    Parameters
    ----------
    numbers : mapping of str to float or array
        Numbers by name; an array of one dimension holds one for each tensor.
    places : sequence of int
        Which tensors.
    """
    return {
        name: value[places] if isinstance(value, np.ndarray) and value.ndim else value
        for name, value in numbers.items()
    }


def totals(rule: Rule, backend: Backend, values: Sequence[Array]) -> list[Scalar]:
    """Add up what was measured of one tensor.

    Parameters
    ----------
    rule : Rule
        Whose totals are wanted.
    backend : Backend
        The library of the arrays.
    values : sequence of array
        What was measured, an array for each total.

    Returns
    -------
    list of scalar
        The norms, then the sums; 0-d arrays where the library compiles.
    """
    count = len(rule.norms)
    if backend.compiles:
        xp, wide = backend.xp, [widened(x, backend) for x in values]
        return [scaled_norm(x, xp) if k < count else xp.sum(x) for k, x in enumerate(wide)]
    arrays = [backend.array(x) for x in values]
    norms = [math.sqrt(square_sum(x)) for x in arrays[:count]]
    return [*norms, *map(value_sum, arrays[count:])]


def ratio(
    rule: Rule, size: Any, found: Sequence[Any], numbers: Mapping[str, Any], xp: Any
) -> dict[str, Any]:
    """Return the coefficients of `Rule.measured`, of one tensor or of many.

    Parameters
    ----------
    rule : Rule
        A rule with a ratio.
    size : int or array of int
        Number of elements of each tensor.
    found : sequence of float or array
        The totals.
    numbers : mapping of str to float or array
        The rule's other coefficients, before they were rounded to the compute dtype.
    xp : module
        Array functions.
    """
    assert rule.ratio is not None
    with np.errstate(all="ignore"):
        own = rule.ratio(size, *found, *(numbers[name] for name in rule.ratio_names), xp)
    if set(own) != set(rule.measured):
        raise ValueError(
            f"ratio of rule {rule.name} returned {sorted(own)}, wanted {sorted(rule.measured)}"
        )
    return own
