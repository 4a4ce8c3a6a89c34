"""Which slots of a rule are never negative, found by running the rule on abstract signs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from .rule import Rule

__all__ = ["nonnegative_slots"]


@dataclass(frozen=True, eq=False)
class _Sign:
    """A value of which only the sign is known, with the terms if it is a scaled difference."""

    nonnegative: bool = False
    difference: tuple[_Sign, _Sign] | None = None

    def __add__(self, other: _Sign) -> _Sign:
        if other.difference is not None and other.difference[1] is self:
            # v + c * (x - v) lies between v and x.
            return _Sign(self.nonnegative and other.difference[0].nonnegative)
        return _Sign(self.nonnegative and other.nonnegative)

    def __mul__(self, other: _Sign) -> _Sign:
        part = other.difference if self.nonnegative else None
        return _Sign(self is other or (self.nonnegative and other.nonnegative), part)

    __truediv__ = __mul__

    def __sub__(self, other: _Sign) -> _Sign:
        return _Sign(difference=(self, other))

    def __neg__(self) -> _Sign:
        return _Sign()

    def __abs__(self) -> _Sign:
        return _Sign(True)

    def _compared(self, other: _Sign) -> _Sign:
        return _Sign()

    __lt__ = __le__ = __gt__ = __ge__ = _compared


class _Signs:
    """An `xp` whose functions operate on signs."""

    abs = square = sqrt = staticmethod(lambda x: _Sign(True))
    sign = staticmethod(lambda x: _Sign(x.nonnegative))
    copysign = staticmethod(lambda x, y: _Sign(y.nonnegative))
    maximum = staticmethod(lambda x, y: _Sign(x.nonnegative or y.nonnegative))
    minimum = staticmethod(lambda x, y: _Sign(x.nonnegative and y.nonnegative))
    where = staticmethod(lambda _, x, y: _Sign(x.nonnegative and y.nonnegative))


@cache
def nonnegative_slots(rule: Rule) -> tuple[bool, ...]:
    """Return for each slot whether it stays non-negative, starting from zero.

    Parameters
    ----------
    rule : Rule
        The rule. Its coefficients are assumed non-negative, and those that multiply a
        difference at most 1.

    Returns
    -------
    tuple of bool
        One per slot, in order; False if it is undecidable because of matrix products.
    """
    if rule.kind == "matrix":
        return (False,) * len(rule.slots)
    known = [True] * len(rule.slots)
    while True:
        coefficients = (_Sign(True) for _ in rule.coefficients)
        slots: list[Any] = [_Sign(sign) for sign in known]
        _, *after = rule(_Sign(), _Sign(), *slots, *coefficients, _Signs)
        found = [before and sign.nonnegative for before, sign in zip(known, after, strict=True)]
        if found == known:
            return tuple(known)
        known = found
