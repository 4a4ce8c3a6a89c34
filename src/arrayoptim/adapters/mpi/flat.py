"""Pieces of parameters in memory: views of them, and their communication."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...arrays.identity import same_objects
from .communication import Links
from .pieces import Piece
from .transfers import Gathering, Sum, gatherings, sums

__all__ = ["Flat"]

Array = Any


class Flat:
    """The pieces of some parameters.

    Parameters
    ----------
    links : Links
        The processes.
    pieces : sequence of Piece
        The pieces, with their owners.
    leaves : sequence of array or None
        The parameters.
    """

    def __init__(
        self, links: Links, pieces: Sequence[Piece], leaves: Sequence[Array | None]
    ) -> None:
        self._links, self._pieces = links, pieces
        self._mine = {piece.place: piece for piece in pieces if piece.owner == links.rank}
        self._cut = {piece.place for piece in pieces if not piece.whole}
        self.shapes = [None if x is None else tuple(x.shape) for x in leaves]
        self._turned = [x is not None and not x.flags.c_contiguous for x in leaves]
        self._present: list[bool] = []
        self._sums: list[Sum] = []
        self._leaves: list[Array | None] = []
        self._gatherings: list[Gathering] = []

    def of(self, place: int) -> list[Piece]:
        """Return the pieces of one parameter, in order."""
        return [piece for piece in self._pieces if piece.place == place]

    def owns(self, i: int) -> bool:
        """Return whether a parameter, or a piece of it, is stepped here."""
        return i in self._mine

    # ---- views

    def parts(self, arrays: Sequence[Array | None]) -> list[Array | None]:
        """Return views of this process's pieces of arrays shaped like the parameters."""
        return [None if x is None else self.part(i, x) for i, x in enumerate(arrays)]

    def part(self, i: int, x: Array) -> Array:
        """Return a view of this process's piece of an array shaped like a parameter."""
        piece = self._mine.get(i)
        if i in self._cut:
            line = self._line(i, x)
            return line[:0] if piece is None else line[piece.start : piece.stop]
        if piece is not None:
            return x
        return x[:0] if x.ndim else x.reshape(1)[:0]

    def whole(self, i: int, parts: Sequence[Array]) -> Array:
        """Return an array shaped like a parameter, assembled from its pieces."""
        if i not in self._cut:
            return parts[0]
        line, shape = np.concatenate(parts), self.shapes[i]
        assert shape is not None
        return line.reshape(shape[::-1]).T if self._turned[i] else line.reshape(shape)

    def _line(self, i: int, x: Array) -> Array:
        """Return all entries in the memory order of the parameter."""
        return x.T.reshape(-1) if self._turned[i] and i in self._cut else x.reshape(-1)

    # ---- communication

    def reduced(
        self,
        leaves: Sequence[Array | None],
        grads: Sequence[Array | None],
        present: Sequence[bool],
        mean: bool,
    ) -> list[Array | None]:
        """Return this process's pieces of the gradients, reduced over all processes.

        The buffers are reused by the next call.

        Parameters
        ----------
        leaves, grads : sequence of array or None
            The parameters, and this process's gradients; None counts as zero.
        present : sequence of bool
            Whether each parameter has a gradient on any process.
        mean : bool
            Whether to average over the processes, instead of summing.
        """
        rank, world = self._links.rank, self._links.world
        if self._present != present:
            pieces = [piece for piece in self._pieces if present[piece.place]]
            self._sums = sums(rank, world, pieces, leaves)
            self._present = list(present)
        found: list[Array | None] = [None] * len(leaves)
        for each in self._sums:
            each.fill(grads, self._line)
            self._links.reduced(each.flat, each.mine, each.counts)
            if mean:
                each.mine *= 1.0 / world
            for i, part in each.found.items():
                found[i] = part
        return found

    def share(self, leaves: Sequence[Array | None]) -> None:
        """Gather the parameters after each process has stepped its pieces."""
        if not same_objects(leaves, self._leaves):
            rank, world = self._links.rank, self._links.world
            self._gatherings = gatherings(rank, world, self._pieces, leaves, self._line)
            self._leaves = list(leaves)
        for each in self._gatherings:
            for into, part in each.sent:
                into[...] = part
            self._links.gathered(each.mine, each.flat, each.counts)
            for into, part in each.got:
                into[...] = part
