"""Factory functions with the name, docstring and signature of a class."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

from ..config.registry import lookup

Made = TypeVar("Made")


def under(
    function: Callable[..., Made], shown: Any, signature: inspect.Signature | None = None
) -> Callable[..., Made]:
    """Return a function with the name, docstring and signature of another.

    Parameters
    ----------
    function : callable
        The function, which is modified.
    shown : callable
        The class or function that it represents.
    signature : Signature, optional
        The signature; by default that of `shown`.
    """
    update_wrapper(function, shown, updated=())
    function.__signature__ = signature or inspect.signature(shown)  # type: ignore[attr-defined]
    return function


def factory(name: str, wrap: Callable[[Any], Made]) -> Callable[..., Made]:
    """Return a factory that makes a registered optimizer from its arguments, and wraps it."""
    cls = lookup(name)
    return under(lambda *args, **kwargs: wrap(cls(*args, **kwargs)), cls)
