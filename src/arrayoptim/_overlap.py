"""Finding arrays that share memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._arrays import backend_of
from ._typing import Array


def overlapping(arrays: Sequence[Array]) -> tuple[int, int] | None:
    """Find two arrays that share memory, or one whose own entries do.

    Returns
    -------
    (int, int) or None
        The places of a pair; twice the same place for an array that overlaps itself.
    """
    seen: dict[int, int] = {}
    spans = []
    for place, array in enumerate(arrays):
        if seen.setdefault(id(array), place) != place:
            return seen[id(array)], place
        span = backend_of(array).span(array)
        if span is None or span.size == 0:
            continue
        if any(s == 0 and n > 1 for s, n in zip(span.strides, span.shape, strict=True)):
            return place, place
        spans.append((*np.lib.array_utils.byte_bounds(span), place, span))
    spans.sort(key=lambda entry: entry[:3])
    active: list[Any] = []
    for entry in spans:
        active = [other for other in active if other[1] > entry[0]]
        for other in active:
            if np.shares_memory(other[3], entry[3]):
                return min(other[2], entry[2]), max(other[2], entry[2])
        active.append(entry)
    return None
