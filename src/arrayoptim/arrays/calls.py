"""Whether a caller's function accepts the arguments that it will be called with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["mismatch"]


def mismatch(function: Callable[..., Any], *given: Any) -> str:
    """Return why a function cannot be called with some arguments; empty if it can.

    Some C functions have no signature; they are assumed to accept them.
    """
    # inspect.signature of an instance may return that of its constructor.
    asked = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    try:
        signature = inspect.signature(asked)
    except (TypeError, ValueError):
        return ""
    try:
        signature.bind(*given)
    except TypeError as error:
        return str(error)
    return ""
