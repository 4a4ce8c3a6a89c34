"""Batches of matrices, which are stepped in tiles, pass by pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...numerics.sums import WIDTH, tile_height
from ..passes import Grid, grid_of, passes, rooms
from .batches import Batch
from .jobs import Job
from .matrices import LINES, TILE
from .tables import Chunks, address, gathered


class MatrixBatch(Batch):
    """Leaves of a tree whose rule has totals along rows and columns."""

    def _new_jobs(self) -> list[Job]:
        """Return one job for each pass."""
        plan = passes(self._rule)
        assert plan is not None
        sizes = [self._rule.matrix(shape) for shape in self.reader.shapes]
        grids = [grid_of(rows, columns) for rows, columns in sizes]
        size, places = rooms(plan, grids)
        self._room = np.zeros(size)
        first = address(self._room)
        table = [
            [*grid, *(first + 8 * place for place in row)]
            for grid, row in zip(grids, places, strict=True)
        ]
        assert not table or len(table[0]) == len(LINES) + len(plan.kept) + len(plan.totals)
        self._lines = np.asarray(table, np.int64)
        known = self._known() | {"lines": address(self._lines)}
        tiles, tensors = _tiles(grids), _tensors(grids)
        lines = sum(rows * across + columns * down for rows, columns, down, across in grids)
        return [
            Job(self.elements, tiles, known) if whole else Job(lines, tensors, known)
            for _, whole in plan.turns
        ]


def _tiles(grids: Sequence[Grid]) -> Chunks:
    found: list[tuple[int, ...]] = []
    for t, (rows, columns, down, across) in enumerate(grids):
        height = tile_height(columns)
        for y in range(down):
            below = min((y + 1) * height, rows)
            found += [
                (t, y * height, below, x * WIDTH, min((x + 1) * WIDTH, columns), y, x)
                for x in range(across)
            ]
    table = np.asarray(found, np.int64).reshape(-1, len(TILE)).T
    return gathered(list(table), (table[2] - table[1]) * (table[4] - table[3]))


def _tensors(grids: Sequence[Grid]) -> Chunks:
    sizes = [rows * across + columns * down for rows, columns, down, across in grids]
    return gathered([np.arange(len(grids))], np.asarray(sizes, np.int64))
