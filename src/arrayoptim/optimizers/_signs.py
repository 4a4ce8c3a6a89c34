"""Random signs that are identical in every library, at any precision, and in compiled steps.

A sign is a function of its position and a key, not of earlier draws, so a resumed run draws those
of the uninterrupted one. The bits come from a Feistel cipher on two 15-bit halves: integers below
2**30, which all libraries compute exactly.
"""

from __future__ import annotations

from .._typing import Array, Scalar
from ..arrays.libraries import backend_of

__all__ = ["random_signs"]

_HALF = 1 << 15
_LOW = _HALF - 1
_ROUNDS = (20077, 31337, 9973, 27059, 14741)
"""Odd multipliers, one per round."""


def random_signs(rows: int, columns: int, key: Scalar, like: Array) -> Array:
    """Return a matrix of 1 and -1.

    Parameters
    ----------
    rows, columns : int
        Its shape; fewer rows are a prefix of more.
    key : scalar
        An integer from 0 to 2**24, which may be traced; different keys give different signs.
    like : array
        An array with the library, dtype and device of the result.

    Returns
    -------
    array
        Of shape (rows, columns), preceded by the axes of `key`.
    """
    backend = backend_of(like)
    dtype = backend.dtype(like)

    def whole(numbers: Array) -> Array:
        return backend.cast(numbers, "int32")

    i = whole(backend.counted(rows, like))[:, None]
    j = whole(backend.counted(columns, like))[None, :]
    k = whole(backend.zeros(like, dtype, (1, 1)) + key)
    # High bits of a long axis or a large key do not fit in a half, so they go into the round keys.
    own, far = k & _LOW, 7 * (i // _HALF) + 8191 * (j // _HALF) + 4093 * (k // _HALF)
    left, right = i & _LOW, j & _LOW
    for factor in _ROUNDS:
        own = (own * 12269 + 6925) & _LOW
        x = (((right + own + far) & _LOW) * factor) & _LOW
        left, right = right, (left + x * x // 128) & _LOW
    return backend.cast((right & (_HALF // 2)) // (_HALF // 4) - 1, dtype)
