"""Coefficients that each tensor has for itself, from norms over its elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from .._arrays import Backend
from .._rule import Rule
from .._typing import Array, Scalar
from ..gradients import scaled_norm, square_sum, widened

__all__ = ["measured", "part", "ratio"]


def part(numbers: Mapping[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """Take some tensors' part of numbers of which each tensor has its own.

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


def measured(
    rule: Rule, backend: Backend, p: Array, d: Array, numbers: Mapping[str, Scalar]
) -> dict[str, Scalar]:
    """Measure one tensor.

    Parameters
    ----------
    rule : Rule
        A rule with a ratio.
    backend : Backend
        The library of the tensor.
    p, d : array
        The parameter and its direction.
    numbers : mapping of str to scalar
        The rule's other coefficients, before they were rounded to the type of the arithmetic.

    Returns
    -------
    dict of str to scalar
        The coefficients of `Rule.measured`.
    """
    size = prod(p.shape)
    if backend.compiles:
        xp = backend.xp
        norms = [scaled_norm(widened(x, backend), xp) for x in (p, d)]
        return ratio(rule, size, norms, numbers, xp)
    norms = [np.sqrt(square_sum(backend.array(x))) for x in (p, d)]
    return {k: float(v) for k, v in ratio(rule, size, norms, numbers, np).items()}


def ratio(
    rule: Rule, size: Any, norms: Sequence[Any], numbers: Mapping[str, Any], xp: Any
) -> dict[str, Any]:
    """Give the coefficients of `Rule.measured`, of one tensor or of many.

    Parameters
    ----------
    rule : Rule
        A rule with a ratio.
    size : int or array of int
        Number of elements of each tensor.
    norms : sequence of float or array
        The norms of parameter and direction.
    numbers : mapping of str to float or array
        The rule's other coefficients.
    xp : module
        Array functions.
    """
    assert rule.ratio is not None
    with np.errstate(all="ignore"):
        found = rule.ratio(size, *norms, *(numbers[name] for name in rule.ratio_names), xp)
    if set(found) != set(rule.measured):
        raise ValueError(
            f"ratio of rule {rule.name} gave {sorted(found)}, wanted {sorted(rule.measured)}"
        )
    return found
