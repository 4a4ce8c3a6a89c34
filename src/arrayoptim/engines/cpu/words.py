"""The operations of scalar programs that consist of parts, as LLVM instructions.

As Numba functions, each would be compiled separately, which takes a tenth of a second.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

from numba import types
from numba.extending import intrinsic

from .numbers import I1

__all__ = ["words"]


def words() -> ModuleType:
    """Return the functions that parts receive as ``ns``; the source may add others.

    Returns
    -------
    module
        A module that jitted functions can use as a global.
    """
    ns = ModuleType("ns")
    for kind, functions in _WORDS.items():
        for function in functions:
            setattr(ns, function.__name__.lstrip("_"), _made(function, kind))
    return ns


def _made(generate: Callable[..., Any], kind: Any) -> Any:
    """Make an intrinsic of a function of an IR builder and of values of one type."""
    names = list(inspect.signature(generate).parameters)[1:]

    def form(_: Any, *given: Any) -> Any:
        # A condition keeps its type.
        common = _common([x for name, x in zip(names, given, strict=True) if name != "condition"])
        result = kind or common
        wanted = [types.boolean if name == "condition" else common for name in names]

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pairs = zip(values, signature.args, wanted, strict=True)
            return generate(builder, *(context.cast(builder, x, a, b) for x, a, b in pairs))

        return result(*given), code

    # Numba inspects the function's number of arguments.
    text = f"lambda typing, {', '.join(names)}: form(typing, {', '.join(names)})"
    return intrinsic(eval(text, {"form": form}))


def _common(given: list[Any]) -> Any:
    """Return the common type of numbers; constants do not widen it."""
    found = [x for x in given if isinstance(x, types.Float)]
    if types.float32 in found:
        return types.float32
    if found:
        return types.float64
    return types.boolean if given and given[0] == types.boolean else types.int64


def _where(builder: Any, condition: Any, one: Any, other: Any) -> Any:
    return builder.select(condition, one, other)


def _minimum(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", one, other), one, other)


def _maximum(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


def _magnitude(builder: Any, x: Any) -> Any:
    return _call(builder, "fabs", x)


def _root(builder: Any, x: Any) -> Any:
    root = _call(builder, "sqrt", x)
    return builder.select(builder.fcmp_ordered(">", x, x.type(0.0)), root, x.type(0.0))


def _ratio(builder: Any, one: Any, other: Any) -> Any:
    none = builder.fcmp_ordered("==", other, other.type(0.0))
    return builder.select(none, one.type(math.nan), builder.fdiv(one, other))


def _call(builder: Any, name: str, x: Any) -> Any:
    return builder.call(builder.module.declare_intrinsic(f"llvm.{name}", [x.type]), (x,))


def _negation(builder: Any, condition: Any) -> Any:
    return builder.xor(condition, I1(1))


def _nowhere(builder: Any, condition: Any) -> Any:
    return builder.xor(condition, I1(1))


def _finite(builder: Any, x: Any) -> Any:
    return builder.fcmp_ordered("==", builder.fsub(x, x), x.type(0.0))


def _constant(builder: Any, x: Any) -> Any:
    return x


_WORDS: dict[Any, tuple[Callable[..., Any], ...]] = {
    None: (_where, _minimum, _maximum, _magnitude, _root, _ratio),
    types.boolean: (_negation, _nowhere, _finite),
    types.float64: (_constant,),
}
"""The generator of each operation, with its result type; None for that of its arguments."""
