"""What a formula computes of numbers that only a device knows, found by calling it with symbols.

A formula's coefficients may follow from totals over all gradients and from scalar state. Where
these lie on a device the host calls the very function with a `Symbol` for each. Arithmetic on plain
floats stays Python's; where a float meets a symbol, it becomes an argument of what is then printed.
So both have the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .grammar import VOCABULARY

__all__ = ["SYMBOLS", "Recalled", "Symbol", "UnknownError", "depends", "inputs", "symbolic"]


class UnknownError(TypeError):
    """A formula wants to know a number that only a device knows, or does what none computes."""


class Symbol:
    """A number in double precision, or a condition, that is known only on a device.

    Parameters
    ----------
    op : str
        ``"input"``, a sign of arithmetic or comparison, or a function of ``xp``.
    args : tuple
        What it is made of, symbols and floats; for an input what it is called.
    """

    __slots__ = ("args", "op")
    __array_ufunc__ = None  # NumPy's own numbers leave arithmetic to the symbol

    def __init__(self, op: str, args: tuple[Any, ...]) -> None:
        self.op, self.args = op, args

    __hash__ = object.__hash__

    def __neg__(self) -> Symbol:
        return Symbol("-", (self,))

    def __abs__(self) -> Symbol:
        return Symbol("abs", (self,))

    def __bool__(self) -> bool:
        raise UnknownError("found a condition on a number that is on a device; wanted xp.where")

    def __float__(self) -> float:
        raise UnknownError("found a number that is on a device; wanted arithmetic or a function")


def _sign(op: str, turned: bool = False) -> Any:
    def apply(self: Symbol, other: Any) -> Symbol:
        return Symbol(op, (other, self) if turned else (self, other))

    return apply


for _op, _name in (("+", "add"), ("-", "sub"), ("*", "mul"), ("/", "truediv"), ("&", "and")):
    setattr(Symbol, f"__{_name}__", _sign(_op))
    setattr(Symbol, f"__r{_name}__", _sign(_op, turned=True))
for _op, _name in (("|", "or"), (">", "gt"), (">=", "ge"), ("<", "lt"), ("<=", "le")):
    setattr(Symbol, f"__{_name}__", _sign(_op))
for _op, _name in (("==", "eq"), ("!=", "ne")):
    setattr(Symbol, f"__{_name}__", _sign(_op))


class _Functions:
    """The ``xp`` of a formula that is called with symbols: NumPy's, where it gets floats only."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if not callable(found):
            return found

        def apply(*values: Any, **options: Any) -> Any:
            if Symbol not in map(type, values):
                return found(*values, **options)
            if name not in VOCABULARY or options:
                raise UnknownError(f"{name} of a number that is on a device is not exact there")
            return Symbol(name, values)

        setattr(self, name, apply)
        return apply


SYMBOLS: Any = _Functions()
"""The ``xp`` of formulas some of whose numbers are symbols."""


class _Unseen:
    """Stands for a number at which nobody may look."""

    __array_ufunc__ = None

    def _seen(self, *_: Any) -> Any:
        raise UnknownError("a formula looks at the step count")

    __eq__ = __ne__ = __bool__ = __hash__ = _seen


UNSEEN: Any = _Unseen()
"""A step count with which a formula that depends on it raises."""


class Recalled:
    """What a formula makes of symbols, computed again where it is given something else."""

    def __init__(self) -> None:
        self._known: Any = None
        self._counts: bool | None = None

    def of(self, compute: Callable[[Any], Any], h: Any, it: Any, held: Mapping[str, Any]) -> Any:
        """Return what a formula computes.

        Parameters
        ----------
        compute : callable
            The formula, given the step count.
        h : object
            Its hyperparameters; the same object where they are the same.
        it : int
            Steps taken.
        held : mapping of str to Symbol or float
            Scalar state and totals.
        """
        known = self._known
        if known is not None and known[0] is h and _same(known[1], held):
            if self._counts is None:
                self._counts = _fails(compute)
            if not self._counts:
                return known[2]
        else:
            self._counts = None
        found = compute(it)
        self._known = h, dict(held), found
        return found


def _same(known: Mapping[str, Any], held: Mapping[str, Any]) -> bool:
    return known.keys() == held.keys() and all(held[name] is x for name, x in known.items())


def _fails(compute: Callable[[Any], Any]) -> bool:
    try:
        compute(UNSEEN)
    except Exception:
        return True
    return False


def symbolic(values: Iterable[Any]) -> bool:
    """Return whether there is a symbol among values."""
    return Symbol in map(type, values)


def inputs(symbol: Symbol) -> Sequence[Any]:
    """Return what the inputs are called that a symbol depends on, each once."""
    found: dict[Any, None] = {}
    seen: set[Symbol] = set()

    def visit(value: Any) -> None:
        if type(value) is not Symbol or value in seen:
            return
        seen.add(value)
        if value.op == "input":
            found[value.args] = None
            return
        for each in value.args:
            visit(each)

    visit(symbol)
    return tuple(found)


def depends(symbol: Symbol, kind: str) -> bool:
    """Return whether a symbol depends on an input whose name begins with a word."""
    return any(name[0] == kind for name in inputs(symbol))
