"""The ``xp`` of rules inside kernels, with NumPy's results for NaN and signed zeros."""

from __future__ import annotations

import types as python_types
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from .numbers import extreme, larger

_APPROXIMATE = ("exp", "expm1", "log", "log1p", "tanh", "power")


def vocabulary() -> python_types.ModuleType:
    """Return the functions that rules may use.

    Returns
    -------
    module
        A module that jitted functions can use as a global instead of NumPy.
    """
    xp = python_types.ModuleType("xp")
    for name in _APPROXIMATE:
        setattr(xp, name, getattr(np, name))
    for unary in (_abs, _sqrt, _square, _sign):
        setattr(xp, unary.__name__.lstrip("_"), _unary(unary))
    for binary in (_maximum, _minimum, _copysign):
        setattr(xp, binary.__name__.lstrip("_"), _binary(binary))
    xp.where = _where()  # type: ignore[attr-defined]
    return xp


def _unary(generate: Callable[..., Any]) -> Any:
    return intrinsic(lambda typing, x: (x(x), lambda _, builder, __, v: generate(builder, *v)))


def _binary(generate: Callable[..., Any]) -> Any:
    return intrinsic(lambda typing, x, y: (x(x, x), lambda _, b, __, v: generate(b, *v)))


def _where() -> Any:
    def code(_: Any, builder: Any, __: Any, values: Any) -> Any:
        return builder.select(*values)

    return intrinsic(lambda typing, condition, x, y: (x(condition, x, x), code))


def _call(builder: Any, name: str, *values: Any) -> Any:
    kind = values[0].type
    signature = ir.FunctionType(kind, [kind] * len(values))
    function = builder.module.declare_intrinsic(f"llvm.{name}", [kind], signature)
    return builder.call(function, values)


def _abs(builder: Any, x: Any) -> Any:
    return _call(builder, "fabs", x)


def _sqrt(builder: Any, x: Any) -> Any:
    return _call(builder, "sqrt", x)


def _square(builder: Any, x: Any) -> Any:
    return builder.fmul(x, x)


def _sign(builder: Any, x: Any) -> Any:
    zero, one = ir.Constant(x.type, 0.0), ir.Constant(x.type, 1.0)
    unit = _call(builder, "copysign", one, x)
    # 0.0 for both zeros; NaN for NaN.
    result = builder.select(builder.fcmp_ordered("==", x, zero), zero, unit)
    return builder.select(builder.fcmp_unordered("uno", x, x), x, result)


def _maximum(builder: Any, x: Any, y: Any) -> Any:
    return larger(builder, x, y)


def _minimum(builder: Any, x: Any, y: Any) -> Any:
    return extreme(builder, "<", x, y)


def _copysign(builder: Any, x: Any, y: Any) -> Any:
    return _call(builder, "copysign", x, y)
