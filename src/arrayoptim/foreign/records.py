"""The state of a native optimizer by name: as weight lists and as records of files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..config.spoken import part_of
from ..config.validation import counter
from ..step.checks import Leaf
from ..step.restore import LoadReport, blaming, from_list, from_record, waiting
from ..step.state import State

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..persistence import Record


class _NoParameter(Leaf):
    """The placeholder owner of state that belongs to no single parameter."""

    def __str__(self) -> str:
        return "the whole"


WHOLE = _NoParameter("~", (), "")
"""No parameter has this path: in a path, ``~`` is always followed by 0 or 1."""


@dataclass(frozen=True)
class Entry:
    """An array of a native optimizer's state.

    Attributes
    ----------
    slot : str
        Its name.
    path : str
        The path of its parameter; that of `WHOLE` if it has none.
    array : object
        The native optimizer's own array.
    """

    slot: str
    path: str
    array: Any


@part_of("arrayoptim.optimizer", "Optimizer")
class Kept(ABC):
    """The part of `Foreign` that saves and restores."""

    _lock: Any
    _leaves: tuple[Leaf | None, ...] | None
    _pending: tuple[Any, bool] | None
    _iterations: int
    _interrupted: bool

    # ---- what depends on the library

    @abstractmethod
    def _renew(self) -> None:
        """Replace the native optimizer with one without state and with the same hyperparameters."""

    @abstractmethod
    def _native_state(self) -> list[Entry]:
        """Return the native state."""

    @abstractmethod
    def _read(self, array: Any) -> np.ndarray:
        """Return a host copy of an array of the native state."""

    @abstractmethod
    def _fill(self, values: Mapping[tuple[str, str], np.ndarray]) -> None:
        """Replace the native state, given by slot and path."""

    @abstractmethod
    def _described(self) -> tuple[str, dict[str, Any] | None]:
        """Return the native optimizer's name, and its arguments if it can be made from them."""

    @classmethod
    @abstractmethod
    def _made(cls, name: str, arguments: dict[str, Any]) -> Self:
        """Undo `_described`."""

    def _expected(self, first: Any) -> State:
        """Return a state structured like the one to be restored, given its first array."""
        return self._state(self._native_state())

    def _take_over(self, arguments: Mapping[str, Any]) -> None:
        """Set the hyperparameters that are in a file but not in the native state."""
        return

    # ---- state

    @property
    def built(self) -> bool:
        """Whether the state has been made."""
        return self._leaves is not None

    @property
    def iterations(self) -> int:
        """Steps taken; may be set. The native optimizer's own counters are part of its state."""
        return self._iterations

    @iterations.setter
    def iterations(self, value: int) -> None:
        self._iterations = counter(value, f"{type(self).__name__}.iterations")

    @property
    def skipped(self) -> int:
        """Always 0: a native optimizer does not report skipped steps."""
        return 0

    def reset(self) -> None:
        """Discard all state, including loaded state not yet used; hyperparameters are kept."""
        with self._lock:
            self._iterations, self._leaves, self._pending = 0, None, None
            self._interrupted = False
            self._renew()

    @property
    def weights(self) -> list[Any]:
        """The native optimizer's own arrays, after ``iterations``; empty before `init`."""
        if self._leaves is None:
            return []
        return [self._iterations, *(entry.array for entry in self._native_state())]

    def _state(self, entries: Sequence[Entry]) -> State:
        """Return the arrays of a native state on the host, as this library's `State`."""
        assert self._leaves is not None
        leaves = (WHOLE, *self._leaves)
        places = {leaf.path: place for place, leaf in enumerate(leaves) if leaf is not None}
        slots: list[dict[str, Array]] = [{} for _ in leaves]
        for entry in entries:
            slots[places[entry.path]][entry.slot] = self._read(entry.array)
        names = tuple(dict.fromkeys(entry.slot for entry in entries))
        return State(leaves, names, slots, {}, self._iterations)

    def _replace(self, state: State) -> None:
        self._fill({(name, leaf.path): held[name] for name, leaf, held in state.entries()})
        self._iterations = int(state.iterations)

    def get_weights(self) -> list[np.ndarray]:
        """Return the state as host arrays, ``iterations`` first; empty before `init`."""
        with self._lock:
            return [] if self._leaves is None else self._state(self._native_state()).weights()

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replace the state with what `get_weights` returned; see `Optimizer.set_weights`.

        Parameters
        ----------
        weights : sequence of array
            As from `get_weights`. Before `init` it is kept, and checked when the parameters are
            first seen.

        Raises
        ------
        ValueError
            If the number of arrays, or a shape or dtype, is wrong. Nothing has been changed.
        """
        with self._lock:
            held = waiting(weights, type(self).__name__)
            if self._leaves is None:
                self._pending = held, True
            else:
                self._restore(held)

    def _restore(self, found: Any, strict: bool = True) -> LoadReport:
        """Restore a weight list or a record, after all checks."""
        report = LoadReport("a list")
        if isinstance(found, list):
            expected = self._expected(found[1] if len(found) > 1 else None)
            state = from_list(expected, found, type(self).__name__)
        else:
            first = next((arrays[0] for arrays in found.slots.values() if arrays), None)
            with blaming(found):
                state, report = from_record(self._expected(first), found, strict=strict)
        self._replace(state)
        self._interrupted = False
        return report

    def _record(self) -> Record:
        from .. import persistence

        if self._leaves is None:
            raise ValueError(f"{self!r} has no state yet; call init(params) or take a step first")
        if self._interrupted:
            raise RuntimeError("a step was interrupted half-way; this state is not worth saving")
        slots: dict[str, list[Any]] = {}
        paths: dict[str, list[str]] = {}
        for entry in self._native_state():
            slots.setdefault(entry.slot, []).append(partial(self._read, entry.array))
            paths.setdefault(entry.slot, []).append(entry.path)
        name, arguments = self._described()
        config = {"optimizer": name} | ({} if arguments is None else {"arguments": arguments})
        return persistence.Record(
            source="arrayoptim",
            class_name=type(self).__name__,
            config=config,
            iterations=self._iterations,
            scalars={},
            slots=slots,
            paths=paths,
        )

    def _load(self, record: Record, strict: bool, hyperparameters: bool) -> LoadReport:
        name, config = type(self).__name__, record.config or {}
        with self._lock, blaming(record):
            found = record.class_name, config.get("optimizer")
            if found != (name, self._described()[0]):
                raise ValueError(
                    f"found the state of {found[0]}({found[1] or ''}), wanted {self!r}; "
                    "construct the optimizer that it is of"
                )
            if self._leaves is None:
                self._pending = record.loaded(), strict
                self._iterations = record.iterations or 0
                report = LoadReport(record.source, notes=[*record.notes, "kept until init(params)"])
            else:
                report = self._restore(record, strict)
            if hyperparameters:
                self._take_over(config.get("arguments", {}))
            return report

    # ---- configuration

    def get_config(self) -> dict[str, Any]:
        """Return the native optimizer's name and arguments.

        Returns
        -------
        dict
            For `from_config`.

        Raises
        ------
        NotImplementedError
            If the native optimizer cannot be made from its name and arguments.
        """
        name, arguments = self._described()
        if arguments is None:
            raise NotImplementedError(
                f"{type(self).__name__}: {name} does not tell the arguments it was made with, or "
                "is not found by its name. Construct it anew and use load_weights, which "
                "save_weights serves all the same"
            )
        return {"optimizer": name, "arguments": arguments}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make an optimizer from what `get_config` returned.

        Parameters
        ----------
        config : dict
            The configuration, which is not changed.

        Raises
        ------
        NotImplementedError
            If it lacks the arguments, as in files of a native optimizer that hides them.
        ValueError
            If the library has no optimizer of that name.
        """
        given: Any = config
        name = given.get("optimizer") if isinstance(given, dict) else None
        if not isinstance(name, str):
            raise ValueError(
                f'{cls.__name__}.from_config: found {config!r}, wanted {{"optimizer": ..., '
                '"arguments": {...}}; a native optimizer is passed to the constructor'
            )
        if not isinstance(config.get("arguments"), Mapping):
            raise NotImplementedError(
                f"{cls.__name__}.from_config: {name} comes without its arguments; "
                "construct it anew and use load_weights"
            )
        return cls._made(name, dict(config["arguments"]))
