"""A compiled search, for NumPy arrays and torch tensors in host memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from .._typing import Array
from ..arrays.libraries import backend_of, is_array
from ..engines.cpu.jobs import Job
from ..engines.cpu.native import code_address
from ..engines.cpu.tables import address, gathered
from .loops import BOXED, CELLS, MEMORY, SIZE, WHERE_NUMBERS, program
from .packing import Packing
from .searches import Search, number, same_batch
from .state_layout import (
    CHANGES,
    COLUMN,
    CURVED,
    GIVEN,
    HIGH,
    LOW,
    MIXED,
    NEXT,
    NUMBERS,
    PARKED,
    POINT,
    STAGE,
    STATE,
    STEPS,
    UPPER,
    WAY,
    Settings,
)

_SHOWN = {STAGE, *range(POINT, LOW), GIVEN, NEXT}


class Loops:
    """The arrays of a search, and the job that steps its problems.

    Parameters
    ----------
    shape : (int, int, int)
        Number of problems, of pairs to remember, and of entries of a vector.
    dtype : str
        The dtype of the vectors.
    settings : Settings
        The settings of the search.
    box : pair of numpy.ndarray, or None
        Lower and upper bounds, of shape (problems, entries).

    Attributes
    ----------
    arrays : dict of int to numpy.ndarray
        The state, by the indices in `state_layout`, problem by problem.
    numbers : numpy.ndarray
        The scalars of each problem.
    values : numpy.ndarray
        Input: the loss of each problem; its gradient goes to ``arrays[GIVEN]``.
    """

    def __init__(self, shape: tuple[int, int, int], dtype: str, settings: Settings, box: Any):
        count, memory, size = shape
        made: dict[int, tuple[int, ...]] = {}
        made |= dict.fromkeys((*range(POINT, STEPS), *range(GIVEN, WAY + 1)), (size,))
        made |= dict.fromkeys((STEPS, CHANGES), (memory, size))
        small: dict[int, tuple[int, ...]] = {STAGE: (len(NUMBERS),)}
        small |= dict.fromkeys((MIXED, CURVED), (memory, memory))
        small |= dict.fromkeys(range(COLUMN, UPPER), (memory,))
        self.arrays, table = {}, np.zeros((CELLS, count), np.int64)
        places = np.arange(count)
        for shapes, kind in ((made, dtype), (small, "float64")):
            lengths = np.array([prod(own) for own in shapes.values()])
            starts = count * (np.cumsum(lengths) - lengths)
            room = np.zeros(count * int(lengths.sum()), kind)
            offsets = starts[:, None] + lengths[:, None] * places
            table[list(shapes)] = address(room) + room.itemsize * offsets
            for (k, own), start, length in zip(shapes.items(), starts, lengths, strict=True):
                if k in _SHOWN:
                    self.arrays[k] = room[start : start + count * length].reshape(count, *own)
        self.numbers, table[WHERE_NUMBERS] = self.arrays.pop(STAGE), table[STAGE]
        for k, bound in zip((LOW, HIGH), box or (), strict=False):
            self.arrays[k] = bound
            table[k] = address(bound) + bound.strides[0] * places
        table[SIZE], table[MEMORY], table[BOXED] = size, memory, box is not None
        table[UPPER] = table[MIXED]
        self._table = np.ascontiguousarray(table.T)
        self.values = np.zeros(count)
        *alone, bounds = settings
        self._settings = np.array([*alone, *bounds], np.float64)
        each = size * memory
        chunks = gathered([places], np.full(count, each))
        known = {
            "pointers": address(self._table),
            "sums": address(self.values),
            "coefficients": address(self._settings),
            "kernel": code_address(program(dtype)),
        }
        self._job = Job(count * each, chunks, known)

    def advance(self) -> None:
        """Process losses and gradients; the next points are then in ``arrays[NEXT]``."""
        self._job.again()
        self._job.run(None)


class Compiled(Search):
    """A compiled search; see `OnArrays` for its parameters.

    Its state is in host memory, shared with the arrays of `named`.
    """

    def __init__(
        self,
        packed: Packing,
        memory: int,
        settings: Settings,
        box: tuple[Array, Array] | None,
        leaves: Sequence[Array | None],
    ) -> None:
        self._made = packed, memory, settings, box
        backend, count = packed.backend, prod(packed.batch)
        flat = count, packed.size
        hosted = box and tuple(np.ascontiguousarray(backend.to_host(x)).reshape(flat) for x in box)
        self._loops = loops = Loops((count, memory, packed.size), packed.dtype, settings, hosted)
        one = () if packed.batch else (0,)
        places = (*range(POINT, LOW), GIVEN, NEXT)
        self._shared = {k: backend.wrap(loops.arrays[k][one]) for k in places}
        self._numbers = np.moveaxis(loops.numbers[one], -1, 0)
        if leaves:
            self._begin(leaves)

    def _begin(self, leaves: Sequence[Array | None]) -> None:
        packed, loops = self._made[0], self._loops
        packed.into(self._shared[POINT], leaves)
        point = loops.arrays[POINT]
        if LOW in loops.arrays:
            given = point.copy()
            np.clip(point, loops.arrays[LOW], loops.arrays[HIGH], out=point)
            # The first evaluation is useless if its point lies outside the box.
            loops.numbers[:, PARKED] = np.any(point != given, axis=-1)

    def tell(
        self, value: Any, gradients: Sequence[Array | None], leaves: Sequence[Array | None]
    ) -> list[Array | None]:
        """Process loss and gradients; see `Search`."""
        packed = self._made[0]
        self._loops.values[...] = self._losses(value) if packed.batch else number(value)
        packed.into(self._shared[GIVEN], gradients)
        self._loops.advance()
        return packed.written(self._shared[NEXT], leaves)

    def _losses(self, value: Any) -> Any:
        host = backend_of(value).to_host(value) if is_array(value) else np.asarray(value)
        same_batch(host.shape, self._made[0].batch)
        return host

    def best(self, leaves: Sequence[Array | None]) -> list[Array | None]:
        """Write the best points; see `Search`."""
        new = self._made[0].written(self._shared[POINT], leaves)
        self._loops.numbers[:, PARKED] = 1.0
        return new

    def named(self) -> dict[str, Any]:
        """Return the state to save; see `Search`."""
        numbers = dict(zip(NUMBERS, self._numbers, strict=True))
        wide = {name: self._shared[k] for k, name in enumerate(STATE) if name not in numbers}
        return numbers | wide

    def number(self, name: str) -> Any:
        """Return a saved scalar; see `Search`."""
        return self._numbers[NUMBERS.index(name)]

    def fill(self, values: Mapping[str, np.ndarray]) -> None:
        """Replace the saved state; see `Search`."""
        numbers = list(np.moveaxis(self._loops.numbers, -1, 0))
        for name, target in zip(STATE, [*numbers, *self._arrays()[1:]], strict=True):
            target[...] = values[name].reshape(target.shape)

    def _arrays(self) -> list[np.ndarray]:
        return [self._loops.numbers, *(self._loops.arrays[k] for k in range(POINT, LOW))]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out addresses, which are valid in this process only."""
        return {"made": self._made, "arrays": [array.copy() for array in self._arrays()]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, in new memory."""
        self.__init__(*state["made"], ())  # type: ignore[misc]
        for array, value in zip(self._arrays(), state["arrays"], strict=True):
            array[...] = value
