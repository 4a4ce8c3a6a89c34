"""GaLore."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace

from .._typing import Array, Namespace, Scalar
from ..config.hyper import hyper
from ..config.registry import register
from ..config.typed import Number, Whole
from ..rules.rule import Rule, Shape, Side, rule
from ._matrices import MatrixOptimizer, due, eigenvectors, lacking, oriented, transposed, when
from .adam import adam, adam_numbers


def renewed(now: Scalar, q: Array, g: Array, rank: int, xp: Namespace) -> Array:
    """Return the dominant directions of a gradient, recomputed if due or missing."""
    wanted = lacking(now, q, xp)

    def anew() -> Array:
        x = g if g.shape[-2] >= g.shape[-1] else transposed(g, xp)
        _, vectors = eigenvectors(xp.matmul(transposed(x, xp), x), xp)
        new = xp.flip(vectors[..., -rank:], axis=-1)
        # The sign of a singular vector is arbitrary, but the means along it must keep theirs.
        new = xp.where(xp.sum(new * q, axis=-2, keepdims=True) < 0, -new, new)
        # A zero gradient has no directions.
        some = xp.sum(xp.abs(g), axis=(-2, -1), keepdims=True)
        return xp.where(wanted, xp.where(some <= 0, xp.zeros_like(new), new), q)

    found: Array = when(xp.any(wanted), anew, lambda: q, g)
    return found


def projected(x: Array, q: Array, tall: bool, xp: Namespace) -> Array:
    """Return the projection of an array along directions of its shorter side."""
    return xp.matmul(x, q) if tall else xp.matmul(transposed(q, xp), x)


def restored(x: Array, q: Array, tall: bool, xp: Namespace) -> Array:
    """Return the full-size array of a projection."""
    return xp.matmul(x, transposed(q, xp)) if tall else xp.matmul(q, x)


@cache
def galore_rule(rank: int, outputs: Side) -> Rule:
    """Return the rule for a rank."""

    def shapes(rows: int, columns: int) -> dict[str, Shape]:
        r, tall = min(rank, rows, columns), rows >= columns
        small = (rows, r) if tall else (r, columns)
        return {"momentum": small, "velocity": small, "projector": (min(rows, columns), r)}

    @rule(slots=("momentum", "velocity", "projector"), kind="matrix", shapes=shapes)
    def galore(p, g, m, v, q, rate, b1, c1, b2, c2, eps, now, xp):
        q = renewed(now, q, g, q.shape[-1], xp)
        u = projected(g, q, g.shape[-2] >= g.shape[-1], xp)
        m = b1 * m + c1 * u
        v = b2 * v + c2 * (u * u)
        u = m / (xp.sqrt(v) + eps)
        return p - rate * restored(u, q, g.shape[-2] >= g.shape[-1], xp), m, v, q

    return oriented(galore, outputs)


@register
class GaLore(MatrixOptimizer):
    """Adam in a low-rank subspace of the gradient, which is recomputed periodically.

    For large models that need a small state with full-parameter training. A matrix with sides ``n
    >= k`` needs ``4 * rank * (2 * n + k)`` bytes of state in float32, instead of ``8 * n * k``;
    vectors and scalars need 8 bytes per parameter. A step costs two products with ``rank``
    directions, and an update of the directions an eigendecomposition of the shorter side.

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
    update_proj_gap : int in [1, inf) or schedule
        Number of steps between updates of the directions.
    scale : float in [0, inf) or schedule
        Factor of the step of a matrix.
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
    columns, otherwise (rank, columns), and ``projector`` (shorter side, rank); always in the
    compute dtype. Vectors, scalars and complex parameters have those of `Adam`. With ``t`` the
    number of steps before this one, for a matrix with at least as many rows as columns::

        q = the first right singular vectors of g     # where t is a multiple of update_proj_gap
        u = g q
        m = beta_1 * m + (1 - beta_1) * u
        v = beta_2 * v + (1 - beta_2) * u**2
        u = m / (sqrt(v) + eps)
        p = p - lr * scale * sqrt(1 - beta_2**(t + 1)) / (1 - beta_1**(t + 1)) * u q'

    As in the authors' code, with one difference: the sign of a singular vector is arbitrary, and
    here each new one is oriented like its predecessor, so that the means along it do not flip by
    chance. A parameter whose first gradient is zero or missing gets its directions from the first
    nonzero one. They are computed as the eigenvectors of g' g, in the compute dtype.

    References
    ----------
    Zhao, Zhang, Chen, Wang, Anandkumar, Tian (2024), GaLore: Memory-Efficient LLM Training by
    Gradient Low-Rank Projection, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([[1.0, -2.0], [2.0, 1.0]])
    >>> ao.GaLore(lr=0.1, rank=1, scale=1.0).apply(np.array([[3.0, 0.0], [0.0, 1.0]]), w).round(4)
    array([[ 0.9, -2. ],
           [ 2. ,  1. ]])
    """

    lr: Number = hyper(default=0.001, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    epsilon: Number = hyper(default=1e-06, interval="(0, inf)", doc="Added to the root.")
    rank: Whole = hyper(
        default=128, interval="[1, inf)", integer=True, static=True, doc="Number of directions."
    )
    update_proj_gap: Whole = hyper(
        default=200, interval="[1, inf)", integer=True, doc="Steps between updates."
    )
    scale: Number = hyper(default=0.25, interval="[0, inf)", doc="Factor of a matrix's step.")
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")

    rest = adam

    @property
    def rule(self) -> Rule:
        """The rule of matrices."""
        return galore_rule(self.rank, self.outputs)

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        found, _ = adam_numbers(h.lr, h.beta_1, h.beta_2, h.epsilon, it, xp)
        return {
            **found,
            "rate": found["lr"] * h.scale,
            "now": due(it, h.update_proj_gap, xp),
        }
