"""Functions of a program that call one another, such as those of a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import numpy as np

Part = Callable[..., Any]


def constants(parts: Sequence[Part]) -> dict[str, Any]:
    """Return the globals of functions other than the functions themselves.

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
    """Return functions by name, with a shared namespace as globals.

    Parameters
    ----------
    parts : sequence of callable
        The functions.
    names : dict
        The namespace, to which constants are added.

    Returns
    -------
    dict
        The functions.
    """
    # Numba would recompile a function for each Python integer.
    known = constants(parts).items()
    names |= {name: np.int64(x) if type(x) is int else x for name, x in known}
    found: dict[str, Part] = {}
    for part in _functions(parts):
        told: Any = part
        found[told.__name__] = FunctionType(told.__code__, names, told.__name__)
    return found


def fingerprint(parts: Sequence[Part]) -> str:
    """Return a fingerprint of everything that the functions' machine code depends on.

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
    """Return the semantics of a function, from its byte code."""
    own: Any = function.__code__
    return own.co_code, own.co_consts, own.co_names, own.co_varnames, own.co_argcount
