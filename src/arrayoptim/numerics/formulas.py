"""Formulas of single numbers, found by calling functions of numbers with symbols.

What follows from the count of steps, such as a bias correction, is computed by Python on the host.
Called with symbols, the same functions tell what they compute, so that a device can do it instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = [
    "CONDITIONS",
    "FORMULAS",
    "FUNCTIONS",
    "Cell",
    "Number",
    "UnwritableError",
    "depends",
    "number",
    "ordered",
    "symbolic",
]

CONDITIONS = frozenset({"<", "<=", ">", ">=", "==", "!=", "&", "|", "not"})
"""Operations whose result is true or false."""

FUNCTIONS = frozenset(
    {
        *("abs", "ceil", "copysign", "cos", "exp", "expm1", "floor", "log", "log1p", "maximum"),
        *("minimum", "sign", "sin", "sqrt", "square", "tanh", "where"),
    }
)
"""Functions of numbers that formulas may hold."""

_DOUBLE, _SINGLE = "float64", "float32"


class UnwritableError(TypeError):
    """A function does with a number what no formula says."""


@dataclass(eq=False)
class Cell:
    """A number that a formula takes from outside, and that may be another each time.

    Attributes
    ----------
    name : str
        What it is.
    value : float or array
        The number, or a 0-d array that holds it when the formula is computed.
    """

    name: str
    value: Any


@dataclass(frozen=True, eq=False)
class Number:
    """A symbol for a number in double precision, or for a condition.

    Attributes
    ----------
    op : str
        ``"state"``, ``"total"``, ``"input"`` or ``"number"``, a sign of arithmetic or comparison,
        a function, or ``"float32"`` for the nearest number of that type.
    args : tuple of Number
        What it is made of.
    name : str
        What is called so, of state and totals; the text of a number.
    cell : Cell, optional
        Where an input comes from.
    """

    op: str
    args: tuple[Number, ...] = ()
    name: str = ""
    cell: Cell | None = field(default=None, repr=False)

    # NumPy's numbers leave arithmetic with a symbol to it.
    __array_ufunc__ = None
    dtype = _DOUBLE

    def astype(self, dtype: str) -> Number:
        """Return the nearest number of a type, in double precision."""
        return self if dtype == _DOUBLE else Number(_SINGLE, (self,))

    def _refuse(self, *_: Any) -> Any:
        raise UnwritableError(
            "it goes by the value of a number that only the device knows: a branch of Python, or a "
            "function of another module than xp"
        )

    __bool__ = __float__ = __int__ = __index__ = __iter__ = _refuse
    __hash__ = object.__hash__

    def __neg__(self) -> Number:
        return Number("neg", (self,))

    def __abs__(self) -> Number:
        return Number("abs", (self,))

    def __invert__(self) -> Number:
        return Number("not", (self,))


def _sign(op: str, turned: bool = False) -> Any:
    def apply(self: Number, other: Any) -> Number:
        mine = number(other)
        return Number(op, (mine, self) if turned else (self, mine))

    return apply


_SIGNS = ("+ add", "- sub", "* mul", "/ truediv", "** pow", "% mod", "// floordiv", "& and", "| or")
for _op, _name in map(str.split, _SIGNS):
    setattr(Number, f"__{_name}__", _sign(_op))
    setattr(Number, f"__r{_name}__", _sign(_op, turned=True))
for _op, _name in map(str.split, ("> gt", ">= ge", "< lt", "<= le", "== eq", "!= ne")):
    setattr(Number, f"__{_name}__", _sign(_op))


def number(value: Any) -> Number:
    """Return a number as a symbol.

    Raises
    ------
    UnwritableError
        If it is no real number.
    """
    if isinstance(value, Number):
        return value
    if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        raise UnwritableError(f"it computes with {value!r}, wanted a number")
    return Number("number", name=repr(float(value)))


class _Functions:
    """The ``xp`` of functions of numbers that are called with symbols: NumPy's for floats alone.

    So arithmetic on what the host knows has the bits that it has where there are no symbols.
    """

    float32, float64 = _SINGLE, _DOUBLE

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if not callable(found):
            return found

        def apply(*values: Any, **options: Any) -> Any:
            if not symbolic(values):
                return found(*values, **options)
            if name not in FUNCTIONS or options:
                raise UnwritableError(f"xp.{name} is no function of single numbers")
            return Number(name, tuple(map(number, values)))

        setattr(self, name, apply)
        return apply

    @staticmethod
    def asarray(value: Any, dtype: str = _DOUBLE) -> Any:
        """Return a number in some precision."""
        return value.astype(dtype) if type(value) is Number else np.asarray(value, dtype)

    @staticmethod
    def power(x: Any, y: Any) -> Any:
        """Return a power."""
        return x**y if symbolic((x, y)) else np.power(x, y)


FORMULAS: Any = _Functions()
"""The array functions that a function of numbers is called with."""


def ordered(results: Iterable[Number]) -> Iterator[Number]:
    """Yield all symbols that some are made of, each once, after those that it is made of."""
    seen: set[Number] = set()
    pending = [(value, False) for value in reversed(list(results))]
    while pending:
        value, ready = pending.pop()
        if ready:
            yield value
        elif value not in seen:
            seen.add(value)
            pending.append((value, True))
            pending += [(each, False) for each in reversed(value.args)]


def symbolic(values: Iterable[Any]) -> bool:
    """Return whether there is a symbol among values."""
    return Number in map(type, values)


def depends(symbol: Number, op: str) -> bool:
    """Return whether a symbol depends on inputs of a kind."""
    return any(each.op == op for each in ordered([symbol]))
