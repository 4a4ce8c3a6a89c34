"""What type checkers know of declared hyperparameters; nothing of it is used at run time.

A declaration is read as one type and set, in the constructor too, as more: a number may be given as
a schedule. That is the form of a descriptor, which `Declared` tells type checkers to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, SupportsFloat, SupportsInt, TypeAlias, TypeVar

from .._typing import Schedule

Read = TypeVar("Read")
Set = TypeVar("Set", contravariant=True)


class Typed(Generic[Read, Set]):
    """A hyperparameter that is read as one type and set as another."""

    if TYPE_CHECKING:

        def __get__(self, instance: Any, owner: Any = None) -> Read: ...

        def __set__(self, instance: Any, value: Set) -> None: ...


Number: TypeAlias = Typed[float, float | SupportsFloat | Schedule | Sequence[float | Schedule]]
"""A number, a schedule of it, or one of them for each model."""

MaybeNumber: TypeAlias = Typed[
    float | None, float | SupportsFloat | Schedule | Sequence[float | Schedule] | None
]
"""A number, a schedule of it, one of them for each model, or None."""

Whole: TypeAlias = Typed[int, int | SupportsInt]
"""A whole number."""

MaybeWhole: TypeAlias = Typed[int | None, int | SupportsInt | None]
"""A whole number or None."""

Words: TypeAlias = Typed[tuple[str, ...], str | Sequence[str]]
"""One str, or some."""
