"""Adaptive clipping of tensors with the same dtypes on one device."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._typing import Array
from ...arrays.backend import COMPLEX, COMPUTE, ITEMSIZE, reals
from ...arrays.libraries import backend_of
from ...numerics.sums import BLOCK, WIDTH, tile_height
from ...rules.stages import UNITS
from ..units import memory_order, parts_of
from .arrays import Library
from .device import Device, Launch, Launches, Table, launches
from .prelude import CHUNK, THREADS
from .tables import Numbers, chunks, element_count
from .tiles import CELLS, cells
from .units import KINDS, factors, result, squares

__all__ = ["Units", "unit_stage"]

_ALIGNED = 256
"""What divides the offset of each clipped gradient, in bytes."""

_NOTHING = np.zeros((0, len(CELLS)), np.int64)


def unit_stage(names: Container[str]) -> str | None:
    """Return the stage among these per-step scalars that clips units; None if there is none."""
    return next((name for name in UNITS if name in names), None)


class Units:
    """The units of a batch's tensors, and memory for their clipped gradients.

    Parameters
    ----------
    library : Library
        The library of the tensors.
    device : Device
        Their device.
    params : sequence of array
        The parameters.
    places : sequence of int
        Their indices among the gradients.
    columns : int
        The columns of the batch's table of pointers.
    """

    def __init__(
        self,
        library: Library,
        device: Device,
        params: Sequence[Array],
        places: Sequence[int],
        columns: int,
    ) -> None:
        self._library, self._device, self._params = library, device, params
        self._columns = columns
        dtype = backend_of(params[0]).dtype(params[0])
        self._pairs, self._compute = dtype in COMPLEX, COMPUTE[dtype]
        self._dtype = reals(dtype)
        sizes = [element_count(p) for p in params]
        self._cut = chunks(sizes, CHUNK)
        self._chunks = device.table(self._cut)
        step = _ALIGNED // ITEMSIZE[self._compute]
        ends = np.cumsum([0, *(-(-size // step) * step for size in sizes)])
        # Kept between steps, as graphs and the tables of the sweep have its address.
        self._room = self._zeros(self._compute, int(ends[-1]))
        first = library.address(self._room)
        self._rooms = [first + ITEMSIZE[self._compute] * int(end) for end in ends[:-1]]
        self._clipped = device.table(np.zeros(max(places) + 1, np.int64))
        self._made: dict[Any, _Made] = {}

    def _zeros(self, dtype: str, size: int) -> Array:
        like = self._params[0]
        return backend_of(like).zeros(like, dtype, (max(size, 1),))

    def launched(
        self,
        stage: str,
        names: tuple[str, ...],
        kind: str,
        given: tuple[int, ...],
        numbers: Sequence[float],
        later: bool = False,
    ) -> tuple[int, list[Launches]]:
        """Prepare the launches that clip the gradients of a step.

        Parameters
        ----------
        stage : str
            The stage, of `UNITS`.
        names : tuple of str
            Names of the per-step scalars.
        kind : str
            The dtype of the gradients.
        given : tuple of int
            Addresses of the tables that a sweep reads: tensors' indices among the gradients,
            pointers, gradients, norms of all and of each, per-step scalars.
        numbers : sequence of float
            The scalars, where the last of these tables is missing.
        later : bool
            Whether a graph is being captured, so that nothing can be compiled or copied now.

        Returns
        -------
        int
            Device address of the table of clipped gradients.
        list
            The launches.

        Raises
        ------
        RuntimeError
            If the kernels cannot be compiled on this machine, or not during a capture.
        """
        key = stage, names, kind
        if key not in self._made:
            if later:
                raise RuntimeError(
                    f"no kernel is ready for gradients of {kind}: let capture see gradients of "
                    "their parameter's data type"
                )
            self._made[key] = self._make(stage, names, reals(kind))
        made = self._made[key]
        leaves, pointers, gradients, norm, norms, table = given
        shapes, sums, found = made.shapes.address, *map(self._library.address, made.memory)
        places = shapes, leaves
        tables = gradients, norm, norms, table, sums, found, self._clipped.address
        (squared, cut), (factored, some), last = made.kernels
        return self._clipped.address, [
            launches(squared, cut[1], (cut[0].address, *places, pointers, gradients, sums)),
            launches(factored, some[1], (some[0].address, *places, *tables, *numbers)),
            launches(last, len(self._cut), (self._chunks.address, *places, gradients, found)),
        ]

    def _make(self, stage: str, names: tuple[str, ...], kind: str) -> _Made:
        dtypes = self._dtype, kind, self._compute, self._pairs
        programs = (
            squares(*dtypes, self._columns),
            factors(*dtypes, names, stage),
            result(*dtypes),
        )
        count = sum(3 if dtype == "float64" else 1 for dtype in (self._dtype, kind))
        rows, cuts, some = [], [_NOTHING], [_NOTHING]
        sums = first = 0
        for t, (p, room) in enumerate(zip(self._params, self._rooms, strict=True)):
            row, cut = self._laid_out(p, t, UNITS[stage])
            _, outer, units, _, tiles = row
            rows.append([*row, sums, first, room, element_count(p)])
            cuts.append(cut)
            some.append(_runs(units, t))
            sums += count * outer * units * tiles
            first += units
        table = self._device.table
        first_two = [(table(np.concatenate(each)), sum(map(len, each))) for each in (cuts, some)]
        kernels = [self._device.kernel(program) for program in programs]
        return _Made(
            table(np.array(rows, np.int64)),
            (self._zeros("float64", sums), self._zeros("float64", first)),
            ((kernels[0], first_two[0]), (kernels[1], first_two[1]), kernels[2]),
        )

    def _laid_out(
        self, p: Array, t: int, units: str
    ) -> tuple[tuple[int, int, int, int, int], Numbers]:
        """Return a tensor's row of the table of shapes, as far as it has it, and its chunks."""
        order = memory_order(self._library.strides(p))
        outer, count, inner = parts_of(tuple(p.shape), order, units)
        size, parts = element_count(p), 1 + self._pairs
        if not size:
            return (KINDS["whole"], 1, count, 1, 0), _NOTHING
        if count == 1:
            tiles = -(-size // BLOCK)
            cut = np.zeros((tiles, len(CELLS)), np.int64)
            cut[:, 0], cut[:, 1], cut[:, 6] = KINDS["whole"], t, np.arange(tiles)
            cut[:, 2] = BLOCK * cut[:, 6]
            cut[:, 3] = np.minimum(cut[:, 2] + BLOCK, size)
            return (KINDS["whole"], 1, 1, size, tiles), cut
        if inner == 1:
            tiles = -(-outer // tile_height(count))
            row = KINDS["columns"], 1, count, count * parts, tiles
            return row, cells(outer, count, t, "columns")
        length = inner * parts
        row = KINDS["rows"], outer, count, length, -(-length // WIDTH)
        return row, cells(outer * count, length, t, "rows")


def _runs(units: int, t: int) -> Numbers:
    """Return the chunks of a tensor's units, one unit for each thread."""
    begin = np.arange(0, units, THREADS)
    found = np.zeros((len(begin), len(CELLS)), np.int64)
    found[:, 1], found[:, 2], found[:, 3] = t, begin, np.minimum(begin + THREADS, units)
    return found


@dataclass
class _Made:
    """The kernels of a step with some scalars and gradients, and their tables.

    Attributes
    ----------
    shapes : Table
        The tensors' shapes.
    memory : tuple of array
        Memory for sums of squares and for factors.
    kernels : tuple
        The first two with their tables of chunks and the number of these.
    """

    shapes: Table
    memory: tuple[Array, Array]
    kernels: tuple[tuple[Launch, tuple[Table, int]], tuple[Launch, tuple[Table, int]], Launch]
