"""Which process steps which piece of which parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

__all__ = ["Piece", "pieces_of"]

GRAIN = 64
"""Granularity of splits, in entries: whole cache lines."""


@dataclass(frozen=True)
class Piece:
    """A range of the entries of a parameter, in memory order.

    Attributes
    ----------
    place : int
        The parameter's index in the tree.
    owner : int
        The rank of the process that steps it.
    start, stop : int
        The range.
    whole : bool
        Whether the parameter is stepped in its own shape, and never split.
    """

    place: int
    owner: int
    start: int
    stop: int
    whole: bool


def pieces_of(
    shapes: Sequence[tuple[int, ...] | None], cut: Sequence[bool], world: int
) -> list[Piece]:
    """Return a distribution of parameters over processes, with about equal numbers of entries.

    Parameters
    ----------
    shapes : sequence of tuple of int or None
        Shapes of the parameters; None for None.
    cut : sequence of bool
        Whether each may be split.
    world : int
        Number of processes.

    Returns
    -------
    list of Piece
        In the order of indices; at least one piece per parameter, and at most one per process and
        parameter.
    """
    sizes = {i: prod(shape) for i, shape in enumerate(shapes) if shape is not None}
    loads, found = [0] * world, list[Piece]()
    for i in sorted((i for i in sizes if not cut[i]), key=lambda i: (-sizes[i], i)):
        owner = loads.index(min(loads))
        loads[owner] += sizes[i]
        found.append(Piece(i, owner, 0, sizes[i], True))
    rest = sum(sizes[i] for i in sizes if cut[i])
    room = _rooms(loads, rest)
    owner = 0
    for i in (i for i in sizes if cut[i]):
        start, more = 0, True
        while more:  # at least one piece, possibly empty
            while room[owner] <= 0 and owner < world - 1:
                owner += 1
            stop = sizes[i] if owner == world - 1 else start + _grained(room[owner])
            stop = min(stop, sizes[i])
            room[owner] -= stop - start
            found.append(Piece(i, owner, start, stop, False))
            start, more = stop, stop < sizes[i]
    return sorted(found, key=lambda piece: (piece.place, piece.start))


def _grained(size: int) -> int:
    return -(-size // GRAIN) * GRAIN


def _rooms(loads: Sequence[int], rest: int) -> list[int]:
    """Return how much of the rest each process takes, so that the largest load is minimal."""
    order, level = sorted(loads), 0
    for count in range(len(order), 0, -1):
        level = -(-(rest + sum(order[:count])) // count)
        if level >= order[count - 1]:
            break
    return [max(0, level - load) for load in loads]
