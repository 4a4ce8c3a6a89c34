"""Symbolic formulas of scalars, traced by calling scalar functions with symbols.

What follows from the step count, such as a bias correction, is computed in Python on the host.
Called with symbols, the same functions yield formulas, so that a device can compute them instead.
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
"""Operations with a boolean result."""

FUNCTIONS = frozenset(
    {
        *("abs", "ceil", "copysign", "cos", "exp", "expm1", "floor", "log", "log1p", "maximum"),
        *("minimum", "sign", "sin", "sqrt", "square", "tanh", "where"),
    }
)
"""Scalar functions that formulas may contain."""

_DOUBLE, _SINGLE = "float64", "float32"


class UnwritableError(TypeError):
    """A function uses a number in a way that no formula can express."""


@dataclass(eq=False)
class Cell:
    """An input of a formula, whose value may differ each time it is computed.

    Attributes
    ----------
    name : str
        Its name.
    value : float or array
        The number, or a 0-d array that contains it when the formula is computed.
    """

    name: str
    value: Any


@dataclass(frozen=True, eq=False)
class Number:
    """A symbol for a float64 number or a condition.

    Attributes
    ----------
    op : str
        ``"state"``, ``"total"``, ``"input"`` or ``"number"``, an arithmetic or comparison operator,
        a function, or ``"float32"`` for rounding to that dtype.
    args : tuple of Number
        Its operands.
    name : str
        The name of state or of a total; the text of a number.
    cell : Cell, optional
        The source of an input.
    key : object
        The symbol's key in dicts and sets, as symbols are not hashable.
    """

    op: str
    args: tuple[Number, ...] = ()
    name: str = ""
    cell: Cell | None = field(default=None, repr=False)
    key: object = field(default_factory=object, init=False, repr=False)

    # Makes NumPy scalars defer arithmetic to the symbol.
    __array_ufunc__ = None
    dtype = _DOUBLE

    def astype(self, dtype: str) -> Number:
        """Return the number rounded to a dtype, as float64."""
        return self if dtype == _DOUBLE else Number(_SINGLE, (self,))

    def _refuse(self, *_: Any) -> Any:
        raise UnwritableError(
            "it goes by the value of a number that only the device knows: a branch of Python, or a "
            "function of another module than xp"
        )

    # Unhashable, as lookups in a set or dict of numbers would silently miss a symbol.
    __bool__ = __float__ = __int__ = __index__ = __iter__ = __hash__ = _refuse

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
        If it is not a real number.
    """
    if isinstance(value, Number):
        return value
    if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        raise UnwritableError(f"it computes with {value!r}, wanted a number")
    return Number("number", name=repr(float(value)))


class _Functions:
    """The ``xp`` of scalar functions called with symbols: NumPy's functions for floats alone.

    So arithmetic on what the host knows has the same bits as without symbols.
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
        """Return a number or symbol rounded to a dtype."""
        return value.astype(dtype) if type(value) is Number else np.asarray(value, dtype)

    @staticmethod
    def power(x: Any, y: Any) -> Any:
        """Return a power."""
        return x**y if symbolic((x, y)) else np.power(x, y)


FORMULAS: Any = _Functions()
"""The ``xp`` that a scalar function is called with."""


def ordered(results: Iterable[Number]) -> Iterator[Number]:
    """Yield all symbols that the results depend on, each once, in topological order."""
    seen: set[object] = set()
    pending = [(value, False) for value in reversed(list(results))]
    while pending:
        value, ready = pending.pop()
        if ready:
            yield value
        elif value.key not in seen:
            seen.add(value.key)
            pending.append((value, True))
            pending += [(each, False) for each in reversed(value.args)]


def symbolic(values: Iterable[Any]) -> bool:
    """Whether there is a symbol among values."""
    return Number in map(type, values)


def depends(symbol: Number, op: str) -> bool:
    """Whether a symbol depends on an operation or input of a kind."""
    return any(each.op == op for each in ordered([symbol]))
