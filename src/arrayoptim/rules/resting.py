"""Which rules leave everything alone where the gradient is zero, found by carrying them out."""

from __future__ import annotations

from functools import cache

import numpy as np

from .rule import Rule

__all__ = ["rests"]

_TRIED = 64


@cache
def rests(rule: Rule) -> bool:
    """Whether parameter and slots stay what they are, to the last bit, where a gradient is zero.

    So it is with plain SGD and with Adagrad, whatever the coefficients.
    """
    if rule.kind != "elementwise":
        return False
    draw = np.random.default_rng(17)
    p, *slots = draw.uniform(0.01, 2.0, (1 + len(rule.slots), _TRIED))
    numbers = draw.uniform(0.01, 2.0, (len(rule.coefficients), _TRIED))
    with np.errstate(all="ignore"):
        found = rule(p, np.zeros(_TRIED), *slots, *numbers, np)
    return all(map(np.array_equal, found, (p, *slots)))
