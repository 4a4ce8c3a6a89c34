"""APOLLO."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace

from .._typing import Array, Namespace, Scalar
from ..config.hyper import hyper, square_root
from ..config.registry import register
from ..config.typed import Number, Whole
from ..rules.rule import Rule, Shape, Side, rule
from ._matrices import MatrixOptimizer, due, euclidean, lacking, oriented, when
from ._signs import random_signs
from .adam import adam, adam_numbers
from .galore import projected


def redrawn(now: Scalar, key: Scalar, q: Array, xp: Namespace) -> Array:
    """Return projections of random signs, redrawn if due or missing."""
    wanted = lacking(now, q, xp)
    side, rank = q.shape[-2:]

    def anew() -> Array:
        return xp.where(wanted, random_signs(side, rank, key, q) / rank**0.5, q)

    found: Array = when(xp.any(wanted), anew, lambda: q, q)
    return found


def limit(size: Array, last: Array, growth: Scalar, xp: Namespace) -> Array:
    """Return the factor that keeps a step from being much longer than the last one."""
    most = growth * (last + 1e-8)
    return xp.where((last > 0) & (size > most), most / xp.where(size > 0, size, 1), 1)


@cache
def apollo_rule(rank: int, axes: tuple[int, ...], outputs: Side) -> Rule:
    """Return the rule for a rank, and for the axes that share one factor.

    The axes refer to a matrix with at least as many rows as columns.
    """

    def shapes(rows: int, columns: int) -> dict[str, Shape]:
        r, tall = min(rank, rows, columns), rows >= columns
        small = (rows, r) if tall else (r, columns)
        projector = (min(rows, columns), r)
        return {"momentum": small, "velocity": small, "projector": projector, "length": (1,)}

    @rule(slots=("momentum", "velocity", "projector", "length"), kind="matrix", shapes=shapes)
    def apollo(p, g, m, v, q, last, rate, b1, c1, b2, c2, eps, growth, now, key, xp):
        tall = g.shape[-2] >= g.shape[-1]
        over = axes if tall or len(axes) > 1 else (-2,)
        q = redrawn(now, key, q, xp)
        u = projected(g, q, tall, xp)
        m = b1 * m + c1 * u
        v = b2 * v + c2 * (u * u)
        d = m / (xp.sqrt(v) + eps)
        s = g * (euclidean(d, xp, over) / (euclidean(u, xp, over) + 1e-8))
        size = euclidean(s, xp)[..., 0]
        short = limit(size, last, growth, xp)
        return p - rate * (s * short[..., None]), m, v, q, size * short

    return oriented(apollo, outputs)


@register
class APOLLO(MatrixOptimizer):
    """Scale gradients as Adam would, as estimated in a random low-rank projection.

    For the largest models: full-parameter training with hardly any state. A matrix with sides ``n
    >= k`` needs ``4 * rank * (2 * n + k)`` bytes of state in float32, instead of ``8 * n * k``;
    vectors and scalars need 8 bytes per parameter. A step costs one product with ``rank``
    directions. APOLLO-Mini is ``rank=1, scale_type="tensor", scale=128``.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in the units of `Adam`. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon : float in (0, inf)
        Added to the root, before the bias correction.
    rank : int in [1, inf)
        Number of directions, at most the shorter side of a matrix. Fixed once the state exists.
    scale_type : {"channel", "tensor"}
        Whether each channel has its own factor, a row if a matrix has at least as many rows as
        columns and a column otherwise, or the whole matrix has one.
    scale : float in [0, inf) or schedule
        Square of the factor of a matrix's step.
    update_proj_gap : int in [1, inf) or schedule
        Number of steps between redraws of the directions.
    norm_growth : float in [1, inf] or schedule
        Maximum ratio of the lengths of a matrix's successive steps; ``inf`` for no limit.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    outputs : {"first", "last"}
        How an array of more than two axes is reshaped to a matrix: its first or last axis is kept,
        the others are merged. Use ``"first"`` for torch kernels, ``"last"`` for Keras kernels.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``velocity``, (rows, rank) for a matrix with at least as many rows as
    columns, otherwise (rank, columns), ``projector`` (shorter side, rank) and ``length`` (1);
    always in the compute dtype. Vectors, scalars and complex parameters have those of `Adam`. With
    ``t`` the number of steps before this one, for a matrix with at least as many rows as columns::

        q = random signs / sqrt(rank)                # where t is a multiple of update_proj_gap
        u = g q
        m = beta_1 * m + (1 - beta_1) * u
        v = beta_2 * v + (1 - beta_2) * u**2
        s = g * norm(m / (sqrt(v) + eps)) / (norm(u) + 1e-8)     # norms of rows, or of all
        s = s * min(1, norm_growth * (length + 1e-8) / norm(s))  # but at the first step
        length = norm(s)
        p = p - lr * sqrt(scale) * sqrt(1 - beta_2**(t + 1)) / (1 - beta_1**(t + 1)) * s

    As in the authors' code, where projections are normally distributed and different for each
    matrix; here they are signs that depend only on position and ``t``, the same for all matrices,
    so a resumed run redraws them, in every library. A step of length 0 does not limit later ones.

    References
    ----------
    Zhu, Zhang, Cong, Liu, Park, Chandra, Long, Pan, Wang, Lee (2024), APOLLO: SGD-like Memory,
    AdamW-level Performance, algorithm 1; Chen, Feng, Li, Lai, Yue, Yuan, Wang (2024), Fira, for the
    limit of growth.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([[1.0, -2.0], [2.0, 1.0]])
    >>> mini = ao.APOLLO(lr=0.1, rank=1, scale_type="tensor", scale=1.0)
    >>> mini.apply(np.array([[3.0, 0.0], [0.0, 4.0]]), w).round(4)
    array([[ 0.9151, -2.    ],
           [ 2.    ,  0.8869]])
    """

    lr: Number = hyper(default=0.001, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    epsilon: Number = hyper(default=1e-06, interval="(0, inf)", doc="Added to the root.")
    rank: Whole = hyper(
        default=256, interval="[1, inf)", integer=True, static=True, doc="Number of directions."
    )
    scale_type: str = hyper(
        default="channel", choices=("channel", "tensor"), doc="Granularity of the factors."
    )
    scale: Number = hyper(
        default=1.0, interval="[0, inf)", doc="Square of the factor of a matrix's step."
    )
    update_proj_gap: Whole = hyper(
        default=200, interval="[1, inf)", integer=True, doc="Steps between redraws."
    )
    norm_growth: Number = hyper(
        default=1.01, interval="[1, inf]", doc="Maximum ratio of the lengths of successive steps."
    )
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")

    rest = adam

    @property
    def rule(self) -> Rule:
        """The rule of matrices."""
        axes = (-1,) if self.scale_type == "channel" else (-2, -1)
        return apollo_rule(self.rank, axes, self.outputs)

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        found, _ = adam_numbers(h.lr, h.beta_1, h.beta_2, h.epsilon, it, xp)
        return {
            **found,
            "rate": found["lr"] * square_root(h.scale, xp),
            "growth": h.norm_growth,
            "now": due(it, h.update_proj_gap, xp),
            "key": it // h.update_proj_gap % 2.0**24,
        }
