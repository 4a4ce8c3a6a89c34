"""Pieces of parameters as shards, for the steps of one optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ...step.checks import Leaf
from ...step.sharding import Spread
from .communication import Links

Shape = tuple[int, ...]


class PieceSpread(Spread):
    """How pieces of parameters are distributed over the processes of a communicator.

    Parameters
    ----------
    links : Links
        The processes.
    shapes : sequence of tuple of int or None
        The shapes of the parameters.
    owned : sequence of bool
        Whether each is whole on this process, in its own shape.
    """

    def __init__(self, links: Links, shapes: Sequence[Shape | None], owned: Sequence[bool]) -> None:
        self._links, self._shapes, self._owned = links, shapes, owned

    def described(self, leaves: Sequence[Leaf | None]) -> tuple[Leaf | None, ...]:
        """Return the descriptions of parameters with their full shapes; see `Spread`."""
        rows = zip(leaves, self._shapes, self._owned, strict=True)
        return tuple(
            leaf
            if leaf is None or shape is None or owned
            else replace(leaf, shape=shape, share=partial(_share, shape, leaf.shape))
            for leaf, shape, owned in rows
        )

    def summed(self, rows: Mapping[int, Sequence[float]]) -> dict[int, list[float]]:
        """Sum values over all processes; see `Spread`."""
        flat = np.array([x for i in sorted(rows) for x in rows[i]], np.float64)
        sums = iter(self._links.added(flat).tolist() if flat.size else [])
        return {i: [next(sums) for _ in rows[i]] for i in sorted(rows)}


def _share(whole: Shape, part: Shape, shape: Shape) -> Shape:
    """Return the local shape of a slot: that of the piece, or empty for slots of other shapes."""
    return part if shape == whole else (0, *shape[1:])
