"""Pieces of parameters in memory: which views they are, and how they travel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from ...arrays.libraries import HALF, Backend, backend_of
from .links import Links
from .pieces import Piece

__all__ = ["Flat"]

Array = Any
_ALIGNED = 16
"""Bytes at whose multiples each piece begins that travels with others."""


class Flat:
    """The pieces of some parameters.

    Parameters
    ----------
    links : Links
        The processes.
    pieces : sequence of Piece
        Who has which.
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
        self._rooms: dict[Any, Array] = {}

    def of(self, place: int) -> list[Piece]:
        """Return the pieces of one parameter, in order."""
        return [piece for piece in self._pieces if piece.place == place]

    def owns(self, i: int) -> bool:
        """Return whether a parameter, or a piece of it, is stepped here."""
        return i in self._mine

    # ---- views

    def parts(self, arrays: Sequence[Array | None]) -> list[Array | None]:
        """Return what this process steps of each of some arrays like the parameters: views."""
        return [None if x is None else self.part(i, x) for i, x in enumerate(arrays)]

    def part(self, i: int, x: Array) -> Array:
        """Return what this process steps of one array like a parameter."""
        piece = self._mine.get(i)
        if i in self._cut:
            line = self._line(i, x)
            return line[:0] if piece is None else line[piece.start : piece.stop]
        if piece is not None:
            return x
        return x[:0] if x.ndim else x.reshape(1)[:0]

    def whole(self, i: int, parts: Sequence[Array]) -> Array:
        """Return an array like a parameter, made of its pieces."""
        if i not in self._cut:
            return parts[0]
        line, shape = np.concatenate(parts), self.shapes[i]
        assert shape is not None
        return line.reshape(shape[::-1]).T if self._turned[i] else line.reshape(shape)

    def _line(self, i: int, x: Array) -> Array:
        """Return all elements in the order of the parameter's memory."""
        return x.T.reshape(-1) if self._turned[i] and i in self._cut else x.reshape(-1)

    # ---- travel

    def reduced(
        self,
        leaves: Sequence[Array | None],
        grads: Sequence[Array | None],
        present: Sequence[bool],
        mean: bool,
    ) -> list[Array | None]:
        """Return this process's parts of the gradients of all processes together.

        Parameters
        ----------
        leaves, grads : sequence of array or None
            The parameters, and this process's gradients; None counts as zero.
        present : sequence of bool
            Which parameters have a gradient in any process.
        mean : bool
            Whether the sum is divided by the number of processes.
        """
        kinds: dict[tuple[Backend, str], list[Piece]] = {}
        for piece in self._pieces:
            if present[piece.place]:
                p = leaves[piece.place]
                backend = backend_of(p)
                dtype = backend.dtype(p)
                wide = "float32" if dtype in HALF else dtype
                kinds.setdefault((backend, wide), []).append(piece)
        found: list[Array | None] = [None] * len(leaves)
        for (backend, dtype), pieces in kinds.items():
            sizes = [piece.stop - piece.start for piece in pieces]
            pieces, sizes = _by_owner(pieces, sizes)
            flat = self._room(backend, "grads", dtype, sum(sizes), leaves[pieces[0].place])
            lines: dict[int, Array] = {}
            for piece, stop in zip(pieces, accumulate(sizes), strict=True):
                g = grads[piece.place]
                into = flat[stop - (piece.stop - piece.start) : stop]
                if g is None:
                    into[...] = 0
                    continue
                if piece.place not in lines:
                    lines = {piece.place: self._line(piece.place, g)}
                into[...] = lines[piece.place][piece.start : piece.stop]
            mine = self._links.reduced(flat, self._counts(pieces, sizes))
            if mean:
                mine *= 1.0 / self._links.world
            start = 0
            for i in dict.fromkeys(piece.place for piece in pieces):
                found[i] = self._empty(i, mine)
            for piece, size in zip(pieces, sizes, strict=True):
                if piece.owner == self._links.rank:
                    part = mine[start : start + size]
                    shape = self.shapes[piece.place]
                    found[piece.place] = part.reshape(shape) if piece.whole else part
                    start += size
        return found

    def share(self, leaves: Sequence[Array | None]) -> None:
        """Bring together the parameters, each process's parts of which are new."""
        kinds: dict[Backend, list[Piece]] = {}
        for piece in self._pieces:
            kinds.setdefault(backend_of(leaves[piece.place]), []).append(piece)
        for backend, pieces in kinds.items():
            sizes = [self._bytes(piece, leaves[piece.place]) for piece in pieces]
            pieces, sizes = _by_owner(pieces, sizes)
            counts, like = self._counts(pieces, sizes), leaves[pieces[0].place]
            flat = self._room(backend, "all", "uint8", sum(sizes), like)
            mine = self._room(backend, "mine", "uint8", counts[self._links.rank], like)
            for piece, part, x in self._views(pieces, sizes, mine, leaves, True):
                part[...] = self._line(piece.place, x)[piece.start : piece.stop]
            self._links.gathered(mine, flat, counts)
            for piece, part, x in self._views(pieces, sizes, flat, leaves, False):
                if piece.owner == self._links.rank:
                    continue
                if piece.whole:
                    x[...] = part.reshape(x.shape)
                else:
                    self._line(piece.place, x)[piece.start : piece.stop] = part

    def _views(
        self,
        pieces: Sequence[Piece],
        sizes: Sequence[int],
        data: Array,
        leaves: Sequence[Array | None],
        own: bool,
    ) -> Iterator[tuple[Piece, Array, Array]]:
        """Yield pieces, or this process's own only, with views of their bytes as numbers."""
        start = 0
        for piece, size in zip(pieces, sizes, strict=True):
            if own and piece.owner != self._links.rank:
                continue
            x = leaves[piece.place]
            assert x is not None
            used = (piece.stop - piece.start) * x.dtype.itemsize
            yield piece, data[start : start + used].view(x.dtype), x
            start += size

    def _counts(self, pieces: Sequence[Piece], sizes: Sequence[int]) -> list[int]:
        counts = [0] * self._links.world
        for piece, size in zip(pieces, sizes, strict=True):
            counts[piece.owner] += size
        return counts

    def _bytes(self, piece: Piece, x: Array) -> int:
        size = (piece.stop - piece.start) * int(x.dtype.itemsize)
        return -(-size // _ALIGNED) * _ALIGNED

    def _empty(self, i: int, like: Array) -> Array:
        shape = self.shapes[i]
        assert shape is not None
        return like[:0] if i in self._cut else like[:0].reshape((0, *shape[1:]))

    def _room(self, backend: Backend, use: str, dtype: str, size: int, like: Array) -> Array:
        """Return memory that is used again at the next step."""
        key = backend, use, dtype
        room = self._rooms.get(key)
        if room is None or len(room) < size:
            with backend.guard(like):
                self._rooms[key] = room = backend.zeros(like, dtype, (size,))
        return room[:size]


def _by_owner(pieces: Sequence[Piece], sizes: Sequence[int]) -> tuple[list[Piece], list[int]]:
    """Return pieces and sizes in the order of owners, and of places for each."""
    rows = sorted(zip(pieces, sizes, strict=True), key=lambda row: (row[0].owner, row[0].place))
    return [piece for piece, _ in rows], [size for _, size in rows]
