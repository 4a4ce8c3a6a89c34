"""Which rules change nothing where the gradient is zero, found by running them."""

from __future__ import annotations

from functools import cache

import numpy as np

from .rule import Rule

__all__ = ["rests"]

_TRIED = 64


@cache
def rests(rule: Rule) -> bool:
    """Whether parameter and slots remain bit-identical where a gradient is zero.

    True for plain SGD and Adagrad, whatever the coefficients.
    """
    if rule.kind != "elementwise":
        return False
    draw = np.random.default_rng(17)
    p, *slots = draw.uniform(0.01, 2.0, (1 + len(rule.slots), _TRIED))
    numbers = draw.uniform(0.01, 2.0, (len(rule.coefficients), _TRIED))
    with np.errstate(all="ignore"):
        found = rule(p, np.zeros(_TRIED), *slots, *numbers, np)
    return all(map(np.array_equal, found, (p, *slots)))
