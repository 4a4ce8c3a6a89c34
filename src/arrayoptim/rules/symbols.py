"""Symbolic tracing of matrix rules: what a rule computes, operation by operation.

Engines that compile elementwise loops can thus run a function that others run on whole arrays,
if it only does arithmetic on entries and reductions along rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from .grammar import VOCABULARY
from .rule import Rule

__all__ = ["REDUCTIONS", "Traced", "Value", "traced"]

REDUCTIONS = frozenset({"max", "mean", "sum"})
"""Reductions of ``xp`` along an axis."""

_ROWS, _COLUMNS = 7919, 7927
"""Placeholder numbers of rows and columns: no rule has these values for another reason."""

_NAMES = {_ROWS: "rows", _COLUMNS: "columns"}
_SPACES = {(): "one", ("rows",): "rows", ("columns",): "columns", ("rows", "columns"): "full"}

Axes = tuple[str, ...]
"""The axes of a symbol: ``"rows"``, ``"columns"``, or ``""`` for length 1."""


class UntraceableError(TypeError):
    """A rule has an operation that cannot be traced."""


@dataclass(frozen=True, eq=False)
class Value:
    """A symbol for an operand or intermediate result of a rule.

    Attributes
    ----------
    op : str
        ``"input"``, ``"number"``, ``"view"`` for the same entries in another shape, an arithmetic
        or comparison operator, or a function of ``xp``.
    args : tuple of Value
        The operands.
    axes : tuple of str
        Its axes, ``""`` for an axis of length 1.
    name : str
        Name of an input, or text of a number.
    """

    op: str
    args: tuple[Value, ...] = ()
    axes: Axes = ()
    name: str = ""

    @property
    def space(self) -> str:
        """The axes of its entries: ``"one"``, ``"rows"``, ``"columns"`` or ``"full"``."""
        return _SPACES[tuple(axis for axis in self.axes if axis)]

    def __getitem__(self, index: Any) -> Value:
        """Return a view with a new axis, or without a last axis of length 1."""
        if index == (Ellipsis, 0) and len(self.axes) == 2 and not self.axes[-1]:
            return Value("view", (self,), self.axes[:-1])
        if index == (Ellipsis, slice(None), None) and len(self.axes) == 1:
            return Value("view", (self,), (*self.axes, ""))
        if index == (Ellipsis, None, slice(None)) and len(self.axes) == 1:
            return Value("view", (self,), ("", *self.axes))
        raise UntraceableError("only new axes, or removal of a last axis of length 1, are known")

    def __neg__(self) -> Value:
        return Value("-", (self,), self.axes)

    def __abs__(self) -> Value:
        return Value("abs", (self,), self.axes)


def _sign(op: str, turned: bool = False) -> Any:
    def apply(self: Value, other: Any) -> Value:
        return _joined(op, *((other, self) if turned else (self, other)))

    return apply


for _op, _name in (("+", "add"), ("-", "sub"), ("*", "mul"), ("/", "truediv")):
    setattr(Value, f"__{_name}__", _sign(_op))
    setattr(Value, f"__r{_name}__", _sign(_op, turned=True))
for _op, _name in ((">", "gt"), (">=", "ge"), ("<", "lt"), ("<=", "le")):
    setattr(Value, f"__{_name}__", _sign(_op))


class _Functions:
    """The ``xp`` passed to rules with symbols."""

    def __getattr__(self, name: str) -> Any:
        if name in REDUCTIONS:
            return lambda x, axis, keepdims=False: _reduced(name, x, axis, keepdims)
        if name == "ones_like":
            return lambda x: _number(1.0)
        if name in VOCABULARY:
            return lambda *values: _joined(name, *values)
        raise UntraceableError(f"{name} is not a function of entries, rows or columns")


def _joined(op: str, *values: Any) -> Value:
    """Return the symbol for an elementwise operation on arrays, with NumPy's broadcasting."""
    args = tuple(v if isinstance(v, Value) else _number(v) for v in values)
    rank = max(len(v.axes) for v in args)
    rows = [("",) * (rank - len(v.axes)) + v.axes for v in args]
    axes = []
    for column in zip(*rows, strict=True):
        kinds = {axis for axis in column if axis}
        if len(kinds) > 1:
            raise UntraceableError("rows and columns cannot be broadcast along one axis")
        axes.append(kinds.pop() if kinds else "")
    if tuple(axis for axis in axes if axis) not in _SPACES:
        raise UntraceableError("an array of rows by rows or columns by columns cannot be a loop")
    return Value(op, args, tuple(axes))


def _number(value: Any) -> Value:
    if type(value) not in (int, float):
        raise UntraceableError(f"found a {type(value).__qualname__} among arrays")
    return Value("number", name=repr(float(value)))


def _reduced(op: str, x: Any, axis: Any, keepdims: bool) -> Value:
    if not isinstance(x, Value):
        raise UntraceableError(f"found a {type(x).__qualname__}, wanted an array")
    every = axis if isinstance(axis, tuple) else (axis,)
    places = {range(len(x.axes))[k] for k in every}
    kept = ["" if k in places else kind for k, kind in enumerate(x.axes)]
    if not keepdims:
        kept = [kind for k, kind in enumerate(x.axes) if k not in places]
    same = all(not x.axes[k] for k in places)
    return Value("view" if same else op, (x,), tuple(kept))


@dataclass(frozen=True, eq=False)
class Traced:
    """The traced computation of a matrix rule.

    Attributes
    ----------
    slots : tuple of Value
        The slots as passed to the rule.
    results : tuple of Value
        The new parameter and the new slots.
    """

    slots: tuple[Value, ...]
    results: tuple[Value, ...]


@cache
def traced(rule: Rule) -> Traced | None:
    """Return the traced computation of a matrix rule.

    Parameters
    ----------
    rule : Rule
        The rule.

    Returns
    -------
    Traced or None
        None if it does more than arithmetic on entries and reductions along rows and columns,
        such as matrix products; and for rules that take stacks of matrices.
    """
    if rule.kind != "matrix" or rule.outputs == "stack" or rule.joint is not None:
        return None
    try:
        return _trace(rule)
    # A rule may fail in any way on symbols; then it cannot be a loop.
    except Exception:
        return None


def _trace(rule: Rule) -> Traced:
    matrix = (_ROWS, _COLUMNS)
    own = dict(rule.shapes(*matrix)) if rule.shapes else {}
    shapes = [matrix, *(own.get(name, matrix) for name in rule.slots)]
    wanted = [tuple(_NAMES.get(n, "" if n == 1 else "?") for n in shape) for shape in shapes]
    if any(tuple(filter(None, axes)) not in _SPACES for axes in wanted):
        raise UntraceableError("a slot is shaped neither like the rows, the columns nor the matrix")
    names = ("g", *rule.slots)
    p = Value("input", axes=wanted[0], name="p")
    g, *slots = (
        Value("input", axes=axes, name=name)
        for name, axes in zip(names, [wanted[0], *wanted[1:]], strict=True)
    )
    numbers = [Value("input", name=name) for name in rule.function_names]
    results = tuple(rule.function(p, g, *slots, *numbers, _Functions()))
    if [value.axes for value in results] != wanted:
        raise UntraceableError("results have other shapes than parameter and slots")
    for slot, value in zip(slots, results[1:], strict=True):
        while value.op == "view":
            (value,) = value.args
        if value.op == "input" and value is not slot and value.space != "full":
            raise UntraceableError("a slot is returned as another slot")
    return Traced(tuple(slots), results)
