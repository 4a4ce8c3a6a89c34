"""Classes of the package that a user knows by another's name."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isfunction
from typing import TypeVar

Part = TypeVar("Part", bound=type)


def part_of(module: str, name: str) -> Callable[[Part], Part]:
    """Return a decorator of a class that is a part of another, whose name Python's errors say.

    Parameters
    ----------
    module, name : str
        The module of that other class, and its name.
    """

    def named(part: Part) -> Part:
        for function in filter(isfunction, vars(part).values()):
            function.__module__ = module
            function.__qualname__ = f"{name}.{function.__name__}"
        return part

    return named
