"""State in 8 bits: small floating-point numbers with a shared exponent per block.

A code counts in eighths of an octave, like the upper bits of a float32, from a base determined by
the largest magnitude of its block. Unsigned slots, such as means of squares, cover 32 octaves;
anything smaller becomes the smallest code: a mean of squares may come out too large, which makes
a step shorter, but never zero, which would make it infinite. Signed slots cover 16 octaves; a
constant the size of the base is added first, so that codes next to zero are evenly spaced and
zero is one of them.

With random bits, the expected stored value equals the input. Rounding to nearest loses every
change of less than 6 percent: a mean over 1000 steps would not move. NaN becomes infinity.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .rounding import GROUP, shaped

__all__ = ["GROUP", "LARGEST", "decode", "encode"]

LARGEST = {False: 254, True: 125}
"""The code of a block's largest magnitude before rounding, for unsigned and signed slots."""

_HALF = 1 << 15
_INFINITY = 0x7F800000

Numbers = np.ndarray[Any, Any]


def encode(x: Numbers, signed: bool, bits: Numbers | None = None) -> tuple[Numbers, Numbers]:
    """Return 8-bit codes of numbers.

    Parameters
    ----------
    x : numpy.ndarray
        float32, contiguous.
    signed : bool
        Whether the slot may hold negative numbers.
    bits : numpy.ndarray, optional
        16 random bits for each number in memory order; without it, rounds to nearest.

    Returns
    -------
    codes : numpy.ndarray
        uint8, shaped like `x`.
    exponents : numpy.ndarray
        int16, one for each 256 numbers in memory order.
    """
    flat = x.ravel(order="K")
    words = flat.view(np.uint32)
    magnitudes = np.minimum(words & 0x7FFFFFFF, _INFINITY)
    exponents = _exponents(magnitudes, LARGEST[signed])
    base = _spread(exponents, flat.size)
    if signed:
        magnitudes = (magnitudes.view(np.float32) + _offset(base)).view(np.uint32)
    chance = np.full(flat.size, _HALF, np.uint32) if bits is None else bits
    codes = (magnitudes + (chance << np.uint32(4)) >> np.uint32(20)).astype(np.int32) - base
    if signed:
        codes |= (words >> np.uint32(31) << np.uint32(7)).astype(np.int32)
    else:
        codes = np.maximum(codes, 0)
    return shaped(codes.astype(np.uint8), x), exponents


def _exponents(magnitudes: Numbers, largest: int) -> Numbers:
    padded = np.concatenate([magnitudes, np.zeros(-magnitudes.size % GROUP, np.uint32)])
    top = padded.reshape(-1, GROUP).max(axis=1) >> np.uint32(20)
    exponents: Numbers = np.maximum(top.astype(np.int32) - largest, 0).astype(np.int16)
    return exponents


def _spread(exponents: Numbers, size: int) -> Numbers:
    return np.repeat(exponents.astype(np.int32), GROUP)[:size]


def _offset(base: Numbers) -> Numbers:
    """Return the constant that makes codes evenly spaced next to zero."""
    offset: Numbers = (base << 20).view(np.float32)
    return offset


def decode(codes: Numbers, exponents: Numbers, signed: bool) -> Numbers:
    """Return the numbers that codes stand for.

    Parameters
    ----------
    codes, exponents : numpy.ndarray
        As returned by `encode`.
    signed : bool
        As in `encode`.

    Returns
    -------
    numpy.ndarray
        float32, shaped like the codes.
    """
    flat = codes.ravel(order="K").astype(np.int32)
    base = _spread(exponents, flat.size)
    if signed:
        size = ((flat & 0x7F) + base << 20).view(np.float32) - _offset(base)
        words = size.view(np.uint32) | (flat >> 7 << 31).view(np.uint32)
    else:
        words = (flat + base << 20).view(np.uint32)
    return shaped(words.view(np.float32), codes)
