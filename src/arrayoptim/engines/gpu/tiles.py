"""The chunks of matrices, one for each block of a kernel over rows, columns or elements."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ...numerics.sums import LANES, WIDTH, tile_height
from .prelude import CHUNK, THREADS
from .tables import Numbers

__all__ = ["CELLS", "KINDS", "Over", "cells"]

Over = Literal["rows", "columns", "elements", "tensors"]

KINDS: dict[Over, int] = {"rows": 0, "columns": 1, "elements": 2, "tensors": 3}
"""The codes in the table of chunks for what a block iterates over."""

CELLS = ("kind", "t", "top", "bottom", "left", "right", "tile")
"""The columns of the table of chunks: what the block iterates over, the tensor, the bounds of rows
and columns, and the tile's index: across the matrix for rows, down the matrix for columns."""


def cells(rows: int, columns: int, t: int, over: Over) -> Numbers:
    """Return the chunks of a matrix for blocks of one kind.

    Parameters
    ----------
    rows, columns : int
        Its shape.
    t : int
        Its index.
    over : str
        What the blocks iterate over.
    """
    side = min(columns, WIDTH)
    some = THREADS // LANES
    height, width = {
        "rows": (max(1, CHUNK // (side * some)) * some, WIDTH),
        "columns": (tile_height(columns), THREADS),
        "elements": (max(1, CHUNK // side), WIDTH),
        "tensors": (rows, columns),
    }[over]
    top, left = (
        x.reshape(-1)
        for x in np.meshgrid(
            np.arange(0, rows, height), np.arange(0, columns, width), indexing="ij"
        )
    )
    tile = top // height if over == "columns" else left // WIDTH
    bottom, right = np.minimum(top + height, rows), np.minimum(left + width, columns)
    kind, tensor = np.full_like(top, KINDS[over]), np.full_like(top, t)
    return np.stack([kind, tensor, top, bottom, left, right, tile], axis=1).astype(np.int64)
