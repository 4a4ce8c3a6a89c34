"""Scalar state that stays on a device between steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._typing import Array, Scalar
from ..numerics.formulas import Number

__all__ = ["Kept", "Resident"]


class Resident(MutableMapping[str, Scalar]):
    """Scalar state, some of it on a device, which is read on the first access.

    It is the present state: the next step overwrites the numbers on the device, so those that have
    not been read before are lost then.

    Parameters
    ----------
    values : mapping of str to scalar
        All scalar state, in order; a symbol stands for a number on the device.
    owner : object
        The object that holds those numbers.
    read : callable
        Syncs with the device, and returns those numbers by name.
    views : callable
        Returns them by name as 0-d arrays of the parameters' library, without a sync.
    """

    def __init__(
        self,
        values: Mapping[str, Scalar | Number],
        owner: object,
        read: Callable[[], Mapping[str, float]],
        views: Callable[[], Mapping[str, Array]],
    ) -> None:
        self._values, self._read, self._views = dict(values), read, views
        self._owner: object = owner

    def is_of(self, owner: object) -> bool:
        """Whether this owner holds the state on its device, unchanged by the host since."""
        return self._owner is owner

    def unread(self) -> dict[str, Any]:
        """Return the state without a sync; a symbol stands for a number on the device."""
        return dict(self._values)

    def on_device(self) -> dict[str, Any]:
        """Return the state without a sync; what has not been read as 0-d arrays on the device."""
        unread = [name for name, value in self._values.items() if type(value) is Number]
        views = self._views() if unread else {}
        return self._values | {name: views[name] for name in unread}

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
        """Return the state updated with numbers of the host."""
        return Resident({**self._values, **other}, self._owner, self._read, self._views)

    def __repr__(self) -> str:
        return repr(self._settle())

    def __reduce__(self) -> tuple[Any, ...]:
        """Reduce to a dict of numbers on the host, which a copy or pickle is."""
        return dict, (dict(self._settle()),)


@dataclass(frozen=True, eq=False)
class Kept:
    """Scalar state that a step computes on a device and leaves there.

    Attributes
    ----------
    before : mapping of str to scalar
        The scalar state before the step.
    after : dict of str to Number
        The new values of the numbers that the device holds.
    members : sequence of int
        The group of each parameter of the tree; each total is over one group.
    """

    before: Mapping[str, Scalar]
    after: Mapping[str, Number]
    members: Sequence[int]
