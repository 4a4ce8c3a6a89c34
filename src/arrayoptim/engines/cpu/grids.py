"""Batches of matrices, which are stepped in tiles, pass by pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...numerics.sums import WIDTH, tile_height
from .batches import Batch
from .jobs import Job
from .matrices import LINES, TILE
from .passes import Passes, passes
from .tables import Chunks, address, gathered


class MatrixBatch(Batch):
    """Some leaves of a tree whose rule has totals along rows and columns."""

    def _new_jobs(self) -> list[Job]:
        """Return one job for each pass."""
        plan = passes(self._rule)
        assert plan is not None
        sizes = [self._rule.matrix(shape) for shape in self.reader.shapes]
        grids = [_grid(rows, columns) for rows, columns in sizes]
        self._room, table = _lines(plan, grids)
        self._lines = np.asarray(table, np.int64)
        known = self._known() | {"lines": address(self._lines)}
        tiles, tensors = _tiles(grids), _tensors(grids)
        lines = sum(rows * across + columns * down for rows, columns, down, across in grids)
        return [
            Job(self.elements, tiles, known) if whole else Job(lines, tensors, known)
            for _, whole in plan.turns
        ]


_Grid = tuple[int, int, int, int]
"""Rows and columns of a matrix, and how many tiles are below and beside each other."""


def _grid(rows: int, columns: int) -> _Grid:
    return rows, columns, -(-rows // tile_height(columns)), -(-columns // WIDTH)


def _tiles(grids: Sequence[_Grid]) -> Chunks:
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


def _tensors(grids: Sequence[_Grid]) -> Chunks:
    sizes = [rows * across + columns * down for rows, columns, down, across in grids]
    return gathered([np.arange(len(grids))], np.asarray(sizes, np.int64))


def _lines(plan: Passes, grids: Sequence[_Grid]) -> tuple[Any, list[list[int]]]:
    """Return memory for what is kept during a step, and the table of `LINES` and addresses."""

    def lengths(grid: _Grid) -> list[int]:
        rows, columns, down, across = grid
        of = {"one": 1, "rows": rows, "columns": columns}
        parts = {"one": rows * across, "rows": rows * across, "columns": columns * down}
        return [*(of[v.space] for v in plan.kept), *(parts[v.space] for v in plan.totals)]

    room = np.zeros(sum(_padded(n) for grid in grids for n in lengths(grid)))
    place, table = address(room), []
    for grid in grids:
        row = list(grid)
        for n in lengths(grid):
            row.append(place)
            place += 8 * _padded(n)
        table.append(row)
    assert not table or len(table[0]) == len(LINES) + len(plan.kept) + len(plan.totals)
    return room, table


def _padded(count: int) -> int:
    """Return a number of doubles that is a multiple of a line of the cache."""
    return -(-count // 8) * 8
