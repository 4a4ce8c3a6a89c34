"""Stochastic rounding that is the same in every engine.

The random bits of an element are a function of a seed, of the step and of the element's
place, not of what was drawn before: chunks, threads and a resumed run don't change them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["random_bits", "step_seed", "stochastic_bfloat16"]

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15

Bits = np.ndarray[Any, np.dtype[np.uint32]]


def _mixed(x: int) -> int:
    """Return 64 bits that all depend on all of those given (the finaliser of splitmix64)."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _MASK
    return x ^ x >> 31


def step_seed(seed: int, iterations: int) -> int:
    """Return the seed of one step.

    Parameters
    ----------
    seed : int
        The seed of the run.
    iterations : int
        Steps taken before.

    Returns
    -------
    int
        64 bits, as a signed number.
    """
    value = _mixed((_mixed(seed & _MASK) + _STEP * (iterations + 1)) & _MASK)
    return value - (value >> 63 << 64)


def random_bits(seed: int, leaf: int, slot: int, size: int) -> Bits:
    """Return 16 random bits for each element of a slot.

    Parameters
    ----------
    seed : int
        The seed of the step.
    leaf : int
        Place of the parameter among all leaves.
    slot : int
        Place of the slot among the parameter's.
    size : int
        Number of elements.

    Returns
    -------
    numpy.ndarray
        Numbers from 0 to 65535. Two slots share the halves of one 32-bit number.
    """
    key = _mixed((seed + _STEP * (8 * leaf + slot // 2 + 1)) & _MASK)
    x = np.arange(size, dtype=np.uint32)
    x ^= np.uint32(key & 0xFFFFFFFF)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x += np.uint32(key >> 32)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x >> np.uint32(16) if slot % 2 else x & np.uint32(0xFFFF)


def stochastic_bfloat16(x: np.ndarray[Any, Any], bits: Bits) -> np.ndarray[Any, Any]:
    """Round float32 to one of the two bfloat16 next to it, the nearer one more often.

    Parameters
    ----------
    x : numpy.ndarray
        The numbers, float32, in C or Fortran order.
    bits : numpy.ndarray
        `random_bits` for each of them, in the order of memory.

    Returns
    -------
    numpy.ndarray
        The rounded numbers, still in float32. The mean over all random bits is `x`.
    """
    flat = x.ravel(order="K")
    words = flat.view(np.uint32)
    kept = words + bits & np.uint32(0xFFFF0000)
    kept = np.where(np.isnan(flat), np.uint32(0x7FC00000) | words & np.uint32(0xFFFF0000), kept)
    order: Any = "C" if x.flags.c_contiguous else "F"
    return kept.view(np.float32).reshape(x.shape, order=order)
