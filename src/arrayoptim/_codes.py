"""State in 8 bits: small floating-point numbers that share an exponent in blocks.

A code keeps the exponent and the first three bits behind the point of a float32, counted
down from the largest magnitude of its block. Slots that no sign can enter, such as means
of squares, have codes for 32 octaves, of which the last stands for all that is smaller:
a mean of squares may come out too large, which makes a step shorter, never zero, which
would make it infinite. Other slots have a sign, codes for 16 octaves, and what is smaller
becomes zero or the smallest code by chance.

With random bits the mean of what is stored is what was to be stored. Rounding to the
nearest loses every change of less than 6 percent: a mean over 1000 steps would not move.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["GROUP", "decode", "encode"]

GROUP = 256
"""Elements that share an exponent."""

_DROPPED = np.uint32(20)
_HALF = 1 << 15
_INFINITY = np.uint32(0x7F800000)

Numbers = np.ndarray[Any, Any]


def encode(x: Numbers, signed: bool, bits: Numbers | None = None) -> tuple[Numbers, Numbers]:
    """Return 8-bit codes of numbers.

    Parameters
    ----------
    x : numpy.ndarray
        float32, in C or Fortran order.
    signed : bool
        Whether there may be negative numbers.
    bits : numpy.ndarray, optional
        16 random bits for each number in the order of memory; otherwise to the nearest.

    Returns
    -------
    codes : numpy.ndarray
        uint8, shaped like `x`.
    exponents : numpy.ndarray
        int16, one for each 256 numbers in the order of memory.
    """
    flat = x.ravel(order="K")
    words = flat.view(np.uint32)
    magnitudes = words & np.uint32(0x7FFFFFFF)
    exponents = _exponents(magnitudes, 126 if signed else 254)
    base = np.repeat(exponents.astype(np.int32), GROUP)[: flat.size]
    chance = np.full(flat.size, _HALF, np.uint32) if bits is None else bits
    codes = _rounded(magnitudes, chance) - base
    if signed:
        least = (base + 1 << 20).view(np.float32)
        tiny = magnitudes.view(np.float32) > chance.astype(np.float32) * np.float32(2**-16) * least
        codes = np.where(codes < 1, tiny, np.minimum(codes, 127))
        codes |= (words >> np.uint32(31) << np.uint32(7)).astype(np.int32)
    else:
        codes = np.where(magnitudes == 0, 0, np.clip(codes, 1, 255))
    return codes.astype(np.uint8).reshape(x.shape, order=_order(x)), exponents


def _exponents(magnitudes: Numbers, largest: int) -> Numbers:
    """Return what is to be taken from the upper bits, so that they are at most the largest."""
    padded = np.concatenate([magnitudes, np.zeros(-magnitudes.size % GROUP, np.uint32)])
    top = padded.reshape(-1, GROUP).max(axis=1) >> _DROPPED
    exponents: Numbers = np.maximum(top.astype(np.int32) - largest, 0).astype(np.int16)
    return exponents


def _rounded(magnitudes: Numbers, chance: Numbers) -> Numbers:
    """Return the upper bits after chance was added below them; NaN and infinity stay so."""
    finite = magnitudes + (chance << np.uint32(4))
    special = np.where(magnitudes > _INFINITY, np.uint32(0x7FC00000), magnitudes)
    words = np.where(magnitudes >= _INFINITY, special, finite)
    return (words >> _DROPPED).astype(np.int32)


def decode(codes: Numbers, exponents: Numbers, signed: bool) -> Numbers:
    """Return the numbers that codes stand for.

    Parameters
    ----------
    codes, exponents : numpy.ndarray
        As `encode` gives them.
    signed : bool
        As it was encoded.

    Returns
    -------
    numpy.ndarray
        float32, shaped like the codes.
    """
    flat = codes.ravel(order="K").astype(np.int32)
    base = np.repeat(exponents.astype(np.int32), GROUP)[: flat.size]
    magnitudes = flat & 0x7F if signed else flat
    words = np.where(magnitudes == 0, 0, magnitudes + base << 20).astype(np.uint32)
    if signed:
        words |= (flat >> 7 << 31).astype(np.uint32)
    return words.view(np.float32).reshape(codes.shape, order=_order(codes))


def _order(x: Numbers) -> Any:
    return "C" if x.flags.c_contiguous else "F"
