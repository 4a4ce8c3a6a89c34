"""Matrices with the same dtypes on one device, stepped pass by pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...arrays.backend import COMPUTE
from ...rules.rule import Rule
from ..passes import Grid, grid_of, passes, rooms
from .batches import Batch, labelled
from .device import Launches, Table, launches
from .matrices import matrix_passes
from .program import Program
from .tables import Numbers
from .tiles import CELLS, Over, cells

__all__ = ["MatrixBatch", "pass_programs"]


def pass_programs(
    rule: Rule, dtypes: Mapping[str, str], given: Sequence[str], gradients: str
) -> list[tuple[Program, tuple[Over, ...]]]:
    """Return the kernels of a step, and what the blocks of each iterate over.

    Parameters
    ----------
    rule : Rule
        A rule that has `passes`.
    dtypes, given, gradients
        As for `arrayoptim.engines.gpu.batches.program_of`.
    """
    plan = passes(rule)
    assert plan is not None
    stages, streams = labelled(rule, dtypes, given, gradients)
    found = matrix_passes(plan, stages, streams, COMPUTE[dtypes["p"]])
    return [(each.program, each.over) for each in found]


class MatrixBatch(Batch):
    """Some matrices of a device, with memory for the values kept between passes."""

    def _cut(self, sizes: Sequence[int]) -> tuple[Numbers, Numbers]:
        """Return the tables of chunks and of matrices; see `Batch`."""
        plan = passes(self._rule)
        assert plan is not None
        shapes = [self._rule.matrix(tuple(p.shape)) for p in self._params]
        self._grids = [grid_of(rows, columns) for rows, columns in shapes]
        size, places = rooms(plan, self._grids)
        self._room = self._device.table(np.zeros(max(size, 1)))
        first = self._room.address
        table = [
            [*grid, *(first + 8 * place for place in row)]
            for grid, row in zip(self._grids, places, strict=True)
        ]
        self._cuts: dict[tuple[Over, ...], tuple[Table, int]] = {}
        return np.zeros(1, np.int64), np.array(table, np.int64)

    def _compiled(self, key: tuple[tuple[str, ...], str]) -> tuple[Program, Any]:
        """Return the kernels of a step; see `Batch`."""
        found = pass_programs(self._rule, self._dtypes, *key)
        kernels = [(self._device.kernel(program), self._chunks(over)) for program, over in found]
        return found[0][0], kernels

    def _chunks(self, over: tuple[Over, ...]) -> tuple[Table, int]:
        if over not in self._cuts:
            cut = np.concatenate([_cells(grid, t, over) for t, grid in enumerate(self._grids)])
            self._cuts[over] = self._device.table(cut), len(cut)
        return self._cuts[over]

    def _launched(self, kernels: Any, arguments: tuple[Any, ...]) -> list[Launches]:
        """Return the launches of a step; see `Batch`."""
        return [
            launches(launch, blocks, (cut.address, *arguments[1:]))
            for launch, (cut, blocks) in kernels
        ]


def _cells(grid: Grid, t: int, over: tuple[Over, ...]) -> Numbers:
    """Return the chunks of a matrix."""
    rows, columns, _, _ = grid
    if not rows * columns:
        return np.zeros((0, len(CELLS)), np.int64)
    return np.concatenate([cells(rows, columns, t, each) for each in over])
