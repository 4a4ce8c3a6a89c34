"""Search for arrays that share memory, some by their addresses alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._typing import Array
from .libraries import backend_of


def overlapping(arrays: Sequence[Array]) -> tuple[int, int] | None:
    """Return two arrays that share memory, or one whose entries share memory with each other.

    Returns
    -------
    (int, int) or None
        The indices of a pair; twice the same index for an array that overlaps itself.
    """
    seen: dict[int, int] = {}
    spans = []
    for place, array in enumerate(arrays):
        if seen.setdefault(id(array), place) != place:
            return seen[id(array)], place
        stretch = backend_of(array).stretch(array)
        if stretch is not None:
            if stretch[0] < stretch[1]:
                spans.append((*stretch, place))
            continue
        span = backend_of(array).span(array)
        if span is None or span.size == 0:
            continue
        if folded(span):
            return place, place
        if len(arrays) == 1:
            continue
        spans.append((*np.lib.array_utils.byte_bounds(span), place))
    spans.sort()
    active: list[tuple[int, int, int]] = []
    for entry in spans:
        active = [other for other in active if other[1] > entry[0]]
        for other in active:
            pair = min(other[2], entry[2]), max(other[2], entry[2])
            first, second = (backend_of(arrays[k]).span(arrays[k]) for k in pair)
            assert first is not None and second is not None
            if np.shares_memory(first, second):
                return pair
        active.append(entry)
    return None


def folded(span: np.ndarray[Any, Any]) -> bool:
    """Whether entries of an array share memory with each other, as in sliding windows."""
    if span.flags.c_contiguous:
        return False
    axes = sorted((abs(s), n) for s, n in zip(span.strides, span.shape, strict=True) if n > 1)
    reach = span.itemsize
    apart = True
    for stride, count in axes:
        apart = apart and stride >= reach
        reach += stride * (count - 1)
    if apart or not span.size:
        return False
    if reach < span.size * span.itemsize:
        return True
    # Interleaving strides, which no library produces: mark every byte.
    taken = np.zeros(reach, bool)
    places = np.zeros(1, np.int64)
    for stride, count in axes:
        places = np.add.outer(places, stride * np.arange(count)).ravel()
    for byte in range(span.itemsize):
        taken[places + byte] = True
    return bool(taken.sum() < span.size * span.itemsize)


Addresses = np.ndarray[Any, np.dtype[np.int64]]


class Stretches:
    """A sorted set of memory intervals.

    Attributes
    ----------
    starts : numpy.ndarray
        The first address of each interval, sorted; replaced when intervals are added.
    furthest : numpy.ndarray
        The running maximum of the intervals' ends.
    """

    def __init__(self) -> None:
        self.starts = np.zeros(0, np.int64)
        self._ends = np.zeros(0, np.int64)
        self.furthest = np.zeros(1, np.int64)

    def add(self, starts: Addresses, ends: Addresses) -> None:
        """Add intervals, given by first address and address after the last byte."""
        starts, ends = np.append(self.starts, starts), np.append(self._ends, ends)
        order = np.argsort(starts, kind="stable")
        self.starts, self._ends = starts[order], ends[order]
        self.furthest = np.maximum.accumulate(np.append(0, self._ends))

    def touched(self, starts: Addresses, ends: Addresses) -> Addresses:
        """Return the indices of the given intervals that overlap one in the set."""
        before = np.searchsorted(self.starts, ends)
        return np.flatnonzero(self.furthest[before] > starts)


def bounds(arrays: Sequence[Array]) -> tuple[Addresses, Addresses]:
    """Return the first address of each array and the one after its last; both 0 if unknown."""
    found = []
    for array in arrays:
        stretch = backend_of(array).stretch(array)
        if stretch is None:
            span = backend_of(array).span(array)
            stretch = 0, 0
            if span is not None and span.size:
                stretch = np.lib.array_utils.byte_bounds(span)
        found.append(stretch if stretch[0] < stretch[1] else (0, 0))
    table = np.array(found, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
