"""Declarations of schedules' arguments: constant numbers, strings and other schedules."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from .hyper import REQUIRED, Hyper
from .registry import describe, revive
from .scheduled import is_function, keeps_numbers, with_step

ANY = "(-inf, inf)"


class Field(Hyper):
    """An immutable argument of a schedule."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Return the value as it was set."""
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
        """Description of the values allowed."""
        assert self.interval is not None
        rising = ", each greater than the one before" if self.increasing else ""
        kind = "integers" if self.integer else "numbers"
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
    """A nested schedule, or a number."""

    @property
    def wanted(self) -> str:
        """Description of the values allowed."""
        return "a schedule or a finite number"

    def checked(self, value: Any, owner: type[Any]) -> Any:
        """Return a number, or a schedule, made from its configuration if necessary."""
        found = revive(value, f"{owner.__name__}.{self.name}")
        if keeps_numbers(found):
            raise TypeError(
                f"{owner.__name__}.{self.name}: found {found!r}, which has state, "
                "so it cannot be nested in another schedule; nest the other in it instead"
            )
        if is_function(found):
            return with_step(found, f"{owner.__name__}.{self.name}")
        return self._number(found, owner.__name__)


class Parts(Part):
    """A list of schedules and numbers."""

    @property
    def wanted(self) -> str:
        """Description of the values allowed."""
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
        """Return each part in the form of a configuration."""
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
        The default; the argument is required if this is left out.
    integer : bool
        Whether only integers are allowed.
    """
    return Field(default, interval, doc, integer=integer)


def flag(doc: str, *, default: bool) -> Any:
    """Declare a boolean."""
    return Field(default, doc=doc)


def choice(doc: str, *words: str, default: str) -> Any:
    """Declare a choice of strings."""
    return Field(default, doc=doc, choices=words)


def label(doc: str, *, default: None, kw_only: bool) -> Any:
    """Declare an optional string."""
    return Field(default, doc=doc, keyword=kw_only)


def numbers(
    doc: str, interval: str = ANY, *, increasing: bool = False, integer: bool = False
) -> Any:
    """Declare a required list of numbers."""
    return Numbers(interval, doc, increasing=increasing, integer=integer)


def part(doc: str) -> Any:
    """Declare a nested schedule or number."""
    return Part(REQUIRED, ANY, doc)


def parts(doc: str) -> Any:
    """Declare a list of nested schedules and numbers."""
    return Parts(REQUIRED, ANY, doc)
