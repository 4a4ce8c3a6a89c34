"""Types of declared hyperparameters for type checkers; not used at run time.

A hyperparameter is read as one type but can be set to more, in the constructor too: a number may
be set to a schedule. That is the type of a descriptor, which `Declared` makes type checkers use.
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
"""A number, a schedule, or one of these per model."""

MaybeNumber: TypeAlias = Typed[
    float | None, float | SupportsFloat | Schedule | Sequence[float | Schedule] | None
]
"""A number, a schedule, one of these per model, or None."""

Whole: TypeAlias = Typed[int, int | SupportsInt]
"""An integer."""

MaybeWhole: TypeAlias = Typed[int | None, int | SupportsInt | None]
"""An integer or None."""

Words: TypeAlias = Typed[tuple[str, ...], str | Sequence[str]]
"""A str, or a sequence of str."""
