"""Declarations for schedules: constant numbers, words and other schedules."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from .hyper import REQUIRED, Hyper
from .registry import describe, revive
from .scheduled import is_function, keeps_numbers, with_step

ANY = "(-inf, inf)"


class Field(Hyper):
    """An argument of a schedule, which never changes."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Return the value itself."""
        return self if instance is None else instance._hyper[self.name]

    def checked(self, value: Any, owner: type[Any]) -> Any:
        """Return the value converted to its declared type."""
        if callable(value) or isinstance(value, Mapping):
            raise TypeError(f"{owner.__name__}.{self.name} must be {self.wanted}, got {value!r}")
        return super().checked(value, owner)


class Numbers(Field):
    """A list of numbers."""

    def __init__(
        self, interval: str, doc: str, *, increasing: bool = False, integer: bool = False
    ) -> None:
        super().__init__(REQUIRED, interval, doc, integer=integer)
        self.increasing = increasing

    @property
    def wanted(self) -> str:
        """The values allowed, in words."""
        assert self.interval is not None
        rising = ", each greater than the one before" if self.increasing else ""
        kind = "whole numbers" if self.integer else "numbers"
        return f"a list of {kind} in {self.interval.text}{rising}"

    def checked(self, value: Any, owner: type[Any]) -> list[float]:
        """Return the numbers in a new list."""
        fault = f"{owner.__name__}.{self.name} must be {self.wanted}, got {value!r}"
        if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
            raise TypeError(fault)
        numbers = [self._number(each, owner.__name__) for each in value]
        if not numbers or (self.increasing and any(b <= a for a, b in pairwise(numbers))):
            raise ValueError(fault)
        return numbers


class Part(Field):
    """Another schedule, or a number in its place."""

    @property
    def wanted(self) -> str:
        """The values allowed, in words."""
        return "a schedule or a finite number"

    def checked(self, value: Any, owner: type[Any]) -> Any:
        """Return a schedule as it is, made from its configuration, or a number."""
        found = revive(value, f"{owner.__name__}.{self.name}")
        if keeps_numbers(found):
            raise TypeError(
                f"{owner.__name__}.{self.name}: found {found!r}, which keeps numbers of its own "
                "and cannot be a part of another; make the other a part of it"
            )
        if is_function(found):
            return with_step(found, f"{owner.__name__}.{self.name}")
        return self._number(found, owner.__name__)


class Parts(Part):
    """A list of schedules and numbers."""

    @property
    def wanted(self) -> str:
        """The values allowed, in words."""
        return "a list of schedules and finite numbers"

    def checked(self, value: Any, owner: type[Any]) -> list[Any]:
        """Return the parts in a new list."""
        fault = f"{owner.__name__}.{self.name} must be {self.wanted}, got {value!r}"
        if not isinstance(value, list | tuple):
            raise TypeError(fault)
        if not value:
            raise ValueError(fault)
        return [super(Parts, self).checked(each, owner) for each in value]

    def to_config(self, value: list[Any]) -> list[Any]:
        """Return each part as a configuration holds it."""
        return [describe(each) for each in value]


def number(doc: str, interval: str = ANY, *, default: Any = REQUIRED, integer: bool = False) -> Any:
    """Declare a number in the body of a schedule class.

    Parameters
    ----------
    doc : str
        Meaning and unit.
    interval : str
        The values allowed, such as ``"[0, 1)"``.
    default : float, int or None, optional
        What holds where nothing is given; an argument that must be given if left out.
    integer : bool
        Whether only whole numbers are allowed.
    """
    return Field(default, interval, doc, integer=integer)


def flag(doc: str, *, default: bool) -> Any:
    """Declare a boolean."""
    return Field(default, doc=doc)


def choice(doc: str, *words: str, default: str) -> Any:
    """Declare one of some words."""
    return Field(default, doc=doc, choices=words)


def label(doc: str, *, default: None, kw_only: bool) -> Any:
    """Declare an optional text."""
    return Field(default, doc=doc, keyword=kw_only)


def numbers(
    doc: str, interval: str = ANY, *, increasing: bool = False, integer: bool = False
) -> Any:
    """Declare a required list of numbers."""
    return Numbers(interval, doc, increasing=increasing, integer=integer)


def part(doc: str) -> Any:
    """Declare a schedule, or a number in its place."""
    return Part(REQUIRED, ANY, doc)


def parts(doc: str) -> Any:
    """Declare a list of schedules and numbers."""
    return Parts(REQUIRED, ANY, doc)
