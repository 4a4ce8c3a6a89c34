"""Scalar state that stays on a device between steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._typing import Scalar
from ..numerics.formulas import Number

__all__ = ["Kept", "Resident"]


class Resident(MutableMapping[str, Scalar]):
    """Scalar state, some of whose numbers are on a device and are read when somebody asks.

    It is the state as of now: numbers that nobody has asked for before the next step are gone then,
    as the state that follows takes their place on the device.

    Parameters
    ----------
    values : mapping of str to scalar
        All scalar state in its order; what is on the device is a symbol.
    owner : object
        Who keeps those numbers.
    read : callable
        Waits for the device and returns them by name.
    """

    def __init__(
        self,
        values: Mapping[str, Scalar | Number],
        owner: object,
        read: Callable[[], Mapping[str, float]],
    ) -> None:
        self._values, self._read = dict(values), read
        self._owner: object = owner

    def is_of(self, owner: object) -> bool:
        """Whether a device holds the state under this owner as it is, and nobody has set it."""
        return self._owner is owner

    def unread(self) -> dict[str, Any]:
        """Return what is known without waiting, symbols among it."""
        return dict(self._values)

    def _settle(self) -> dict[str, Any]:
        if Number in map(type, self._values.values()):
            found = self._read()
            for name, value in self._values.items():
                if type(value) is Number:
                    self._values[name] = found[name]
        return self._values

    def __getitem__(self, name: str) -> Scalar:
        value = self._values[name]
        return self._settle()[name] if type(value) is Number else value

    def __setitem__(self, name: str, value: Scalar) -> None:
        self._settle()[name] = value
        self._owner = None

    def __delitem__(self, name: str) -> None:
        del self._settle()[name]
        self._owner = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __or__(self, other: Mapping[str, Scalar]) -> Resident:
        """Return it with other numbers, which the device does not hold."""
        return Resident({**self._values, **other}, self._owner, self._read)

    def __repr__(self) -> str:
        return repr(self._settle())

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what a copy is: numbers on the host."""
        return dict, (dict(self._settle()),)


@dataclass(frozen=True, eq=False)
class Kept:
    """What a step computes on a device and leaves there.

    Attributes
    ----------
    before : mapping of str to scalar
        The scalar state before the step.
    after : dict of str to Number
        What becomes of those numbers that the device holds.
    members : sequence of int
        The group of each parameter of the tree; totals go over those of one.
    """

    before: Mapping[str, Scalar]
    after: Mapping[str, Number]
    members: Sequence[int]
