"""Shared parts of `Muon` and its variants: the iteration, its coefficients, scales by shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .._typing import Array, Namespace
from ..config.matrices import Triple
from ..rules.rule import Side
from ._matrices import by_blocks, euclidean, orthogonalized

__all__ = [
    "SCALES",
    "Triple",
    "constants",
    "joint_of",
    "lengths",
    "looking_ahead",
    "polar_express",
]


def larger(rows: int, columns: int, outputs: Side) -> float:
    return math.sqrt(max(rows, columns))


def widening(rows: int, columns: int, outputs: Side) -> float:
    return math.sqrt(max(1.0, rows / columns if outputs == "first" else columns / rows))


def none(rows: int, columns: int, outputs: Side) -> float:
    return 1.0


SCALES = {"rms": larger, "shape": widening, "none": none}


POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845749493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
"""Amsel et al. (2025), algorithm 1 for singular values in [0.001, 1]; the last one is repeated."""

SAFETY = 1.01
"""The margin in all iterations but the last, so that rounding does not make them diverge."""


def polar_express() -> tuple[Triple, ...]:
    """Return the coefficients with the authors' margin."""
    *first, last = POLAR_EXPRESS
    return (*((a / SAFETY, b / SAFETY**3, c / SAFETY**5) for a, b, c in first), last)


def looking_ahead(p, g, m, mu, nu, ahead, now, xp):
    m = mu * m + nu * g
    return ahead * m + now * g, m


def joint_of(
    steps: int,
    triples: tuple[Triple, ...],
    dtype: str,
    sizes: tuple[int, ...],
    axis: int,
    scale: Callable[[int, int], float] | None = None,
) -> Callable[..., Sequence[Array]]:
    """Return a function that orthogonalizes matrices, or each block of split ones.

    Parameters
    ----------
    steps, triples, dtype, sizes
        As for `muon_rule`.
    axis : {-2, -1}
        The axis of the outputs, which is split.
    scale : callable, optional
        Returns the factor of each block, given its rows and columns.
    """
    fixed = [triples[min(k, len(triples) - 1)] for k in range(steps)] if triples else None

    def joint(directions, a, b, c, tiny, xp):
        def every(given):
            found = orthogonalized(given, tiny, fixed or [(a, b, c)] * steps, xp, dtype)
            scales = [scale(*x.shape[-2:]) if scale else 1.0 for x in found]
            return [x if s == 1.0 else s * x for x, s in zip(found, scales, strict=True)]

        return by_blocks(every, directions, sizes, axis, xp)

    return joint


def constants(
    u: Array,
    factor: Callable[[int, int, Side], float],
    outputs: Side,
    sizes: tuple[int, ...],
    axis: int,
    xp: Namespace,
) -> Array:
    """Return for each entry a factor that depends on the shape of its block."""

    def every(given: list[Array]) -> list[Array]:
        return [xp.full_like(x, factor(x.shape[-2], x.shape[-1], outputs)) for x in given]

    return by_blocks(every, [u], sizes, axis, xp)[0]


def lengths(
    u: Array,
    factor: Callable[[int, int, Side], float],
    outputs: Side,
    sizes: tuple[int, ...],
    axis: int,
    xp: Namespace,
) -> Array:
    """Return for each entry the Euclidean norm of its block, times a factor by shape."""

    def each(x: Array) -> Array:
        length = factor(x.shape[-2], x.shape[-1], outputs) * euclidean(x, xp)
        return xp.broadcast_to(length, x.shape)

    return by_blocks(lambda given: list(map(each, given)), [u], sizes, axis, xp)[0]
