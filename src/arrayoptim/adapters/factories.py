"""Functions that stand for classes: they have another's name, docstring and signature."""

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
    """Return a function with the name and docstring of another, and a signature.

    Parameters
    ----------
    function : callable
        What is called; it is changed.
    shown : callable
        The class or function that it stands for.
    signature : Signature, optional
        Its signature, by default that of the other.
    """
    update_wrapper(function, shown, updated=())
    function.__signature__ = signature or inspect.signature(shown)  # type: ignore[attr-defined]
    return function


def factory(name: str, wrap: Callable[[Any], Made]) -> Callable[..., Made]:
    """Return what makes a registered optimizer from its arguments, and wraps it."""
    cls = lookup(name)
    return under(lambda *args, **kwargs: wrap(cls(*args, **kwargs)), cls)
