"""Stochastic rounding that is the same in every engine.

The random bits of an element are a function of a seed, the step and the element's position, not
of earlier draws: chunks, threads and resuming do not change them.

Drawing new bits for each element would take longer than the step. Instead, groups of 256 elements
use a piece of a fixed noise table; its offset, and a value added to it, are drawn for each group
and step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["GROUP", "NOISE", "OFFSETS", "random_bits", "shaped", "step_seed", "stochastic_bfloat16"]

GROUP = 256
"""Elements rounded with one piece of the table."""

OFFSETS = 1024
"""Number of possible offsets of a piece, a power of two."""

_WORD = (1 << 64) - 1
_STRIDE = 0x9E3779B97F4A7C15

Numbers = np.ndarray[Any, Any]
Bits = np.ndarray[Any, np.dtype[np.uint32]]


def _mixed(x: Numbers) -> Numbers:
    """Return 64 bits, each of which depends on all input bits (the finalizer of splitmix64)."""
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    mixed: Numbers = x ^ x >> np.uint64(31)
    return mixed


def _drawn(key: int, count: int) -> Numbers:
    """Return `count` 64-bit numbers derived from a key."""
    places = np.arange(count, dtype=np.uint64) * np.uint64(_STRIDE)
    return _mixed(places + np.uint64(key & _WORD))


NOISE: Bits = (_drawn(1, OFFSETS + GROUP) >> np.uint64(32)).astype(np.uint32)
"""The noise table."""


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
        A signed 64-bit number.
    """
    number = _of_integers(_of_integers(seed) + _STRIDE * (iterations + 1))
    return number - (1 << 64) if number >> 63 else number


def _of_integers(x: int) -> int:
    """Return `_mixed` of one number, in a tenth of NumPy's time."""
    x &= _WORD
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _WORD
    return x ^ x >> 31


def random_bits(seed: int, leaf: int, slot: int, size: int) -> Bits:
    """Return 16 random bits for each element of a slot.

    Parameters
    ----------
    seed : int
        The seed of the step.
    leaf : int
        Index of the parameter among all leaves.
    slot : int
        Index of the slot among the parameter's.
    size : int
        Number of elements.

    Returns
    -------
    numpy.ndarray
        Numbers from 0 to 65535, in memory order. Two slots share the halves of one 32-bit number.
    """
    key = int(_drawn(seed + _STRIDE * (8 * leaf + slot // 2 + 1), 1)[0])
    groups = _drawn(key, -(-size // GROUP))[:, None]
    first = (groups & np.uint64(OFFSETS - 1)).astype(np.int64)
    words = NOISE[first + np.arange(GROUP)] + (groups >> np.uint64(32)).astype(np.uint32)
    flat: Bits = words.reshape(-1)[:size]
    return flat >> np.uint32(16) if slot % 2 else flat & np.uint32(0xFFFF)


def stochastic_bfloat16(x: Numbers, bits: Bits) -> Numbers:
    """Round float32 to one of its two bfloat16 neighbours, with a probability by distance.

    Parameters
    ----------
    x : numpy.ndarray
        The numbers, float32, contiguous.
    bits : numpy.ndarray
        `random_bits` for each of them.

    Returns
    -------
    numpy.ndarray
        The rounded numbers, still in float32. Their expected value is `x`.
    """
    flat = x.ravel(order="K")
    words = flat.view(np.uint32)
    kept = words + bits & np.uint32(0xFFFF0000)
    kept = np.where(np.isnan(flat), np.uint32(0x7FC00000) | words & np.uint32(0xFFFF0000), kept)
    return shaped(kept.view(np.float32), x)


def shaped(flat: Numbers, like: Numbers) -> Numbers:
    """Return flat numbers in the memory order of `like` with its shape and layout."""
    axes = sorted(range(like.ndim), key=lambda axis: -abs(like.strides[axis]))
    return flat.reshape([like.shape[axis] for axis in axes]).transpose(np.argsort(axes))
