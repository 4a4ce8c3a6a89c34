"""Totals over the elements of tensors, and the per-tensor coefficients derived from them."""

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
    """Return the numbers of some tensors, selecting from per-tensor ones.

    Parameters
    ----------
    numbers : mapping of str to float or array
        Numbers by name; a 1-d array has one for each tensor.
    places : sequence of int
        Indices of the tensors.
    """
    return {
        name: value[places] if isinstance(value, np.ndarray) and value.ndim else value
        for name, value in numbers.items()
    }


def totals(rule: Rule, backend: Backend, values: Sequence[Array]) -> list[Scalar]:
    """Sum the measured quantities of one tensor.

    Parameters
    ----------
    rule : Rule
        The rule with the totals.
    backend : Backend
        The library of the arrays.
    values : sequence of array
        The measured quantities, one array per total.

    Returns
    -------
    list of scalar
        The norms, then the sums; 0-d arrays if the library compiles.
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
        The rule's other coefficients, before rounding to the compute dtype.
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
