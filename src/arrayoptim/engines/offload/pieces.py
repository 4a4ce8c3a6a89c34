"""Splitting of parameters for transfers between device and host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod

from ..._typing import Array
from ...arrays.backend import itemsize
from ...arrays.libraries import COMPLEX, COMPUTE, backend_of
from ...rules.rule import Rule

__all__ = ["BUCKET", "Piece", "cut", "pieces_of", "widest"]

BUCKET = 1 << 25
"""Bytes of parameters per transfer: enough for full bandwidth."""

_ALIGNED = 64


@dataclass(frozen=True)
class Piece:
    """A range of a parameter's elements.

    Attributes
    ----------
    place : int
        The index of the parameter.
    dtype : str
        Its dtype.
    start, stop : int
        The first element, and the one after the last.
    """

    place: int
    dtype: str
    start: int
    stop: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return self.stop - self.start

    @property
    def bytes(self) -> int:
        """Aligned bytes of the parameter's elements."""
        return _rounded(max(self.count, 1) * itemsize(self.dtype))

    @property
    def room(self) -> int:
        """Bytes of parameter and gradient in the buffer."""
        return self.bytes + _rounded(max(self.count, 1) * widest(self.dtype))


def pieces_of(
    rule: Rule, place: int, param: Array, dtype: str, slots: Mapping[str, Array]
) -> list[Piece]:
    """Split a parameter, if its rule and the storage of its slots are elementwise.

    Parameters
    ----------
    rule : Rule
        The update rule.
    place : int
        The index of the parameter.
    param : array
        The parameter.
    dtype : str
        Its dtype.
    slots : mapping of str to array
        Its slots.

    Returns
    -------
    list of Piece
        At least one.
    """
    count = prod(param.shape)
    held = [backend_of(slots[name]).dtype(slots[name]) for name in rule.slots]
    length = count
    if rule.kind == "elementwise" and dtype not in COMPLEX and {*held} <= {COMPUTE[dtype]}:
        length = BUCKET // itemsize(dtype)
    starts = range(0, max(count, 1), max(length, 1))
    return [Piece(place, dtype, start, min(start + length, count)) for start in starts]


def cut(parts: Sequence[Sequence[Piece]]) -> Iterator[list[Piece]]:
    """Group the pieces of parameters into buckets.

    Parameters
    ----------
    parts : sequence of sequence of Piece
        The pieces of each parameter.

    Yields
    ------
    list of Piece
        Pieces of at most `BUCKET` bytes in total, or a single one.
    """
    bucket: list[Piece] = []
    filled = 0
    for piece in chain.from_iterable(parts):
        if bucket and filled + piece.bytes > BUCKET:
            yield bucket
            bucket, filled = [], 0
        bucket.append(piece)
        filled += piece.bytes
    if bucket:
        yield bucket


def _rounded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def widest(dtype: str) -> int:
    """Return the itemsize of the widest gradient that fits in the buffer."""
    return itemsize(dtype if dtype in COMPLEX else COMPUTE[dtype])
