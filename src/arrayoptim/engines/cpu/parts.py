"""Functions of a program that know one another, as those of a search do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import numpy as np

Part = Callable[..., Any]


def constants(parts: Sequence[Part]) -> dict[str, Any]:
    """Return what functions refer to by name besides one another.

    Parameters
    ----------
    parts : sequence of callable
        The functions, and classes of named tuples.

    Returns
    -------
    dict
        Numbers, and classes of named tuples.
    """
    own = {part.__name__ for part in parts}
    found: dict[str, Any] = {}
    for part in _functions(parts):
        told: Any = part
        known = told.__globals__
        found |= {name: known[name] for name in told.__code__.co_names if name in known}
    found = {name: value for name, value in found.items() if name not in own}
    return found | {part.__name__: part for part in parts if isinstance(part, type)}


def _functions(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if not isinstance(part, type)]


def joined(parts: Sequence[Part], names: dict[str, Any]) -> dict[str, Part]:
    """Return functions by name that find all others among some names.

    Parameters
    ----------
    parts : sequence of callable
        The functions.
    names : dict
        The names, to which constants are added.

    Returns
    -------
    dict
        The functions.
    """
    # Numba would compile a function anew for each integer of Python's.
    known = constants(parts).items()
    names |= {name: np.int64(x) if type(x) is int else x for name, x in known}
    found: dict[str, Part] = {}
    for part in _functions(parts):
        told: Any = part
        found[told.__name__] = FunctionType(told.__code__, names, told.__name__)
    return found


def fingerprint(parts: Sequence[Part]) -> str:
    """Return what the machine code of functions depends on.

    Parameters
    ----------
    parts : sequence of callable
        The functions.

    Returns
    -------
    str
        Equal for equal functions.
    """
    told = sorted(
        (name, getattr(value, "_fields", None) or repr(value))
        for name, value in constants(parts).items()
    )
    return repr((told, [code(part) for part in _functions(parts)]))


def code(function: Part) -> tuple[Any, ...]:
    """Return what a function does, as its byte code says it."""
    own: Any = function.__code__
    return own.co_code, own.co_consts, own.co_names, own.co_varnames, own.co_argcount
