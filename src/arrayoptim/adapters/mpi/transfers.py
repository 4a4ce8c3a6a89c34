"""Communication buffers, in which the pieces of all processes are adjacent, and views of them.

They are reused over many steps, because finding the views takes longer than copying small arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from ...arrays.libraries import HALF, Backend, backend_of
from .pieces import Piece

__all__ = ["Gathering", "Sum", "gatherings", "sums"]

Array = Any
Line = Callable[[int, Array], Array]
"""Returns the entries of an array like the parameter with that index, in memory order."""

_ALIGNED = 16
"""Alignment in bytes of pieces in a buffer."""


@dataclass
class Sum:
    """Buffers to reduce-scatter the gradients of one library and dtype.

    Attributes
    ----------
    flat, mine : array
        Buffers for this process's gradients, and for its part of the sums.
    counts : list of int
        Number of entries for each process.
    wholes : list of (int, array)
        Indices of gradients that one process steps whole, with their destination in the buffer.
    cut : dict of int to list
        Destinations of the pieces of other gradients, with start and stop, by index.
    found : dict of int to array
        This process's sums by index: views of `mine`.
    """

    flat: Array
    mine: Array
    counts: list[int]
    wholes: list[tuple[int, Array]] = field(default_factory=list)
    cut: dict[int, list[tuple[Array, int, int]]] = field(default_factory=dict)
    found: dict[int, Array] = field(default_factory=dict)

    def fill(self, grads: Sequence[Array | None], line: Line) -> None:
        """Copy the gradients into the buffer; None counts as zero."""
        for place, into in self.wholes:
            g = grads[place]
            into[...] = 0 if g is None else g
        for place, spans in self.cut.items():
            g = grads[place]
            elements = None if g is None else line(place, g)
            for into, start, stop in spans:
                into[...] = 0 if elements is None else elements[start:stop]


@dataclass
class Gathering:
    """Buffers to all-gather the new pieces of parameters of one library.

    Attributes
    ----------
    mine, flat : array of uint8
        Buffers for this process's pieces, and for those of all.
    counts : list of int
        Number of bytes of each process.
    sent : list of (array, array)
        Destinations in `mine` of this process's pieces, and the pieces.
    got : list of (array, array)
        The pieces of other processes, and their sources in `flat`.
    """

    mine: Array
    flat: Array
    counts: list[int]
    sent: list[tuple[Array, Array]] = field(default_factory=list)
    got: list[tuple[Array, Array]] = field(default_factory=list)


def sums(
    rank: int, world: int, pieces: Sequence[Piece], leaves: Sequence[Array | None]
) -> list[Sum]:
    """Return the buffers to reduce-scatter the gradients of some pieces.

    Parameters
    ----------
    rank, world : int
        The rank of this process, and the number of processes.
    pieces : sequence of Piece
        The pieces of parameters that have a gradient.
    leaves : sequence of array or None
        All parameters.
    """
    kinds: dict[tuple[Backend, str], list[Piece]] = {}
    for piece in pieces:
        p = leaves[piece.place]
        backend = backend_of(p)
        dtype = backend.dtype(p)
        kinds.setdefault((backend, "float32" if dtype in HALF else dtype), []).append(piece)
    found = []
    for (backend, dtype), own in kinds.items():
        ordered = sorted(own, key=lambda piece: piece.owner)
        sizes = [piece.stop - piece.start for piece in ordered]
        counts, like = _counts(world, ordered, sizes), leaves[own[0].place]
        flat, mine = (_room(backend, like, dtype, n) for n in (sum(sizes), counts[rank]))
        each, at = Sum(flat, mine, counts), 0
        for piece, stop in zip(ordered, accumulate(sizes), strict=True):
            into, p = flat[stop - (piece.stop - piece.start) : stop], leaves[piece.place]
            assert p is not None
            if len(into) == p.size:
                rows = piece.whole or p.flags.c_contiguous
                all_of_it = into.reshape(p.shape) if rows else into.reshape(p.shape[::-1]).T
                each.wholes.append((piece.place, all_of_it))
            else:
                span = into, piece.start, piece.stop
                each.cut.setdefault(piece.place, []).append(span)
            each.found.setdefault(
                piece.place, mine[:0].reshape((0, *p.shape[1:])) if piece.whole else mine[:0]
            )
            if piece.owner == rank:
                part = mine[at : at + len(into)]
                each.found[piece.place] = part.reshape(p.shape) if piece.whole else part
                at += len(into)
        found.append(each)
    return found


def gatherings(
    rank: int, world: int, pieces: Sequence[Piece], leaves: Sequence[Array | None], line: Line
) -> list[Gathering]:
    """Return the buffers to all-gather the new pieces of parameters; see `sums`."""
    kinds: dict[Backend, list[Piece]] = {}
    for piece in pieces:
        kinds.setdefault(backend_of(leaves[piece.place]), []).append(piece)
    found = []
    for backend, own in kinds.items():
        ordered = sorted(own, key=lambda piece: piece.owner)
        sizes = [_bytes(piece, leaves[piece.place]) for piece in ordered]
        counts, like = _counts(world, ordered, sizes), leaves[own[0].place]
        mine, flat = (_room(backend, like, "uint8", n) for n in (counts[rank], sum(sizes)))
        each, at, start = Gathering(mine, flat, counts), 0, 0
        for piece, size in zip(ordered, sizes, strict=True):
            x = leaves[piece.place]
            here = x if piece.whole else line(piece.place, x)[piece.start : piece.stop]
            if piece.owner == rank:
                each.sent.append((_numbers(mine, at, here), here))
                at += size
            else:
                each.got.append((here, _numbers(flat, start, here)))
            start += size
        found.append(each)
    return found


def _numbers(data: Array, start: int, like: Array) -> Array:
    """Return a view of bytes as an array with the shape and dtype of another."""
    used = int(like.size) * int(like.dtype.itemsize)
    return data[start : start + used].view(like.dtype).reshape(like.shape)


def _counts(world: int, pieces: Sequence[Piece], sizes: Sequence[int]) -> list[int]:
    counts = [0] * world
    for piece, size in zip(pieces, sizes, strict=True):
        counts[piece.owner] += size
    return counts


def _bytes(piece: Piece, x: Any) -> int:
    size = (piece.stop - piece.start) * int(x.dtype.itemsize)
    return -(-size // _ALIGNED) * _ALIGNED


def _room(backend: Backend, like: Any, dtype: str, size: int) -> Array:
    with backend.guard(like):
        return backend.zeros(like, dtype, (size,))
