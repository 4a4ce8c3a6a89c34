"""Drivers of a search: on arrays of any library here, compiled in `compiled`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._typing import Array
from ..arrays.libraries import backend_of
from .arrays import Several, Single, State
from .machine import tell
from .packing import Packing, first
from .state_layout import (
    GIVEN,
    HIGH,
    LOW,
    NEXT,
    NUMBERS,
    PARKED,
    POINT,
    ROWS,
    SQUARES,
    STATE,
    VECTORS,
    Settings,
)
from .vocabulary import Plain

Box = tuple[Array, Array] | None


class Search(ABC):
    """A running search."""

    @abstractmethod
    def tell(
        self, value: Any, gradients: Sequence[Array | None], leaves: Sequence[Array | None]
    ) -> list[Array | None]:
        """Process loss and gradients, and return the next points, in place if writeable.

        Raises
        ------
        TypeError, ValueError
            If the loss does not match the problems. Nothing has been changed.
        """

    @abstractmethod
    def best(self, leaves: Sequence[Array | None]) -> list[Array | None]:
        """Return the best points, in place if writeable.

        The next evaluation is then at one of them, and is ignored.
        """

    @abstractmethod
    def named(self) -> dict[str, Any]:
        """Return the state to save: arrays by name, for a single problem also numbers."""

    @abstractmethod
    def number(self, name: str) -> Any:
        """Return a saved scalar, or those of all problems."""

    @abstractmethod
    def fill(self, values: Mapping[str, np.ndarray]) -> None:
        """Replace the saved state."""


class OnArrays(Search):
    """A search on the arrays of any library.

    Parameters
    ----------
    packed : Packing
        The packing of the parameters.
    memory : int
        Pairs to remember.
    settings : Settings
        The settings of the search.
    box : pair of array, or None
        Lower and upper bounds.
    leaves : sequence of array or None
        The parameters.
    """

    def __init__(
        self,
        packed: Packing,
        memory: int,
        settings: Settings,
        box: Box,
        leaves: Sequence[Array | None],
    ) -> None:
        self._packed, self._settings, self._box = packed, settings, box
        words = self._words(leaves)
        self._state = begun(words, packed.vector(leaves), memory, box)

    def _words(self, leaves: Sequence[Array | None]) -> Single | Several:
        packed = self._packed
        return several(packed, leaves) if packed.batch else Single(packed.backend.xp)

    def tell(
        self, value: Any, gradients: Sequence[Array | None], leaves: Sequence[Array | None]
    ) -> list[Array | None]:
        """Process loss and gradients; see `Search`."""
        packed, words = self._packed, self._words(leaves)
        with words.quiet():
            number = losses(words, packed, value, leaves)
            gradient = packed.vector(gradients)
            after, trial = told(words, self._state, number, gradient, self._settings, self._box)
        new = packed.written(trial, leaves)
        self._state = after
        return new

    def best(self, leaves: Sequence[Array | None]) -> list[Array | None]:
        """Write the best points; see `Search`."""
        new = self._packed.written(self._state[POINT], leaves)
        self._state = {**self._state, PARKED: self._words(leaves).constant(1.0)}
        return new

    def named(self) -> dict[str, Any]:
        """Return the state to save; see `Search`."""
        return named(self._state)

    def number(self, name: str) -> Any:
        """Return a saved scalar; see `Search`."""
        return self._state[NUMBERS.index(name)]

    def fill(self, values: Mapping[str, np.ndarray]) -> None:
        """Replace the saved state; see `Search`."""
        new: State = {}
        for k, name in enumerate(STATE):
            old, value = self._state[k], values[name]
            plain = isinstance(old, int | float)
            new[k] = float(value) if plain else backend_of(old).from_host(value, old)
        self._state = new


def several(packed: Packing, leaves: Sequence[Array | None]) -> Several:
    """Return the operations on arrays whose scalars are arrays too."""
    return Several(packed.backend, packed.batch, packed.dtype, first(leaves))


def named(state: State) -> dict[str, Any]:
    """Return the state by name."""
    return {name: state[k] for k, name in enumerate(STATE)}


def begun(words: Single | Several, given: Array, memory: int, box: Box) -> State:
    """Return the state before the first loss; the given point is the first trial."""
    xp = words.xp
    point, parked = given, words.constant(0.0)
    if box is not None:
        # The first evaluation is useless if its point lies outside the box.
        point = xp.minimum(xp.maximum(given, box[0]), box[1])
        parked = words.number(xp.max(xp.astype(point != given, point.dtype), axis=-1))
    none, wide = xp.zeros_like(point), tuple(point.shape)
    rows = xp.zeros_like(xp.broadcast_to(none[..., None, :], (*wide[:-1], memory, wide[-1])))
    square = xp.sum(rows, axis=-1)[..., None]
    square = xp.zeros_like(xp.broadcast_to(square, (*wide[:-1], memory, memory)))
    found = {name: words.constant(0.0) for name in NUMBERS}
    found |= {**dict.fromkeys(VECTORS, none), **dict.fromkeys(ROWS, rows)}
    found |= {**dict.fromkeys(SQUARES, square), "point": point, "parked": parked}
    return {k: found[name] for k, name in enumerate(STATE)}


def told(
    words: Single | Several,
    state: State,
    value: Any,
    gradient: Array,
    settings: Settings,
    box: Box,
) -> tuple[State, Array]:
    """Return the state after an evaluation, and the next trial point.

    Parameters
    ----------
    words : Single or Several
        The operations.
    state : dict of int to array
        The state, which is not changed.
    value : number
        The loss of each problem.
    gradient : array of shape (..., size)
        The gradients.
    settings : Settings
        The settings of the search.
    box : pair of array, or None
        Lower and upper bounds.
    """
    known = {**state, GIVEN: gradient}
    if box is not None:
        known[LOW], known[HIGH] = box
    tell(words, known, value, settings)
    return {k: known[k] for k in range(len(STATE))}, known[NEXT]


def losses(words: Plain, packed: Packing, value: Any, leaves: Sequence[Array | None]) -> Any:
    """Return the loss of each problem, as a scalar of the operations.

    Raises
    ------
    TypeError, ValueError
        If it is not numeric, or not one for each problem.
    """
    if not isinstance(words, Several):
        return number(value)
    if not hasattr(value, "shape"):
        value = np.asarray(value, np.float64)
    if isinstance(value, np.ndarray | np.generic) and packed.backend.name != "numpy":
        there = packed.backend.device(first(leaves))
        value = packed.backend.xp.asarray(np.asarray(value), device=there)
    same_batch(tuple(value.shape), packed.batch)
    return words.number(value)


def number(value: Any) -> float:
    """Return the loss of one problem.

    Raises
    ------
    TypeError
        If it is not a number.
    """
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"LBFGS: found the loss {value!r}, wanted one number ({error})") from None


def same_batch(shape: tuple[int, ...], batch: tuple[int, ...]) -> None:
    """Raise unless there is one loss per problem.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if shape != batch:
        raise ValueError(
            f"LBFGS: found a loss of shape {shape}, wanted {batch}, a number for each problem"
        )
