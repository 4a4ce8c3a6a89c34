"""CAME."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace

from .._typing import Array, Namespace, Scalar
from ..config.hyper import hyper
from ..config.registry import register
from ..config.typed import Number
from ..rules.rule import Rule, Side, rule
from ._matrices import MatrixOptimizer, oriented, root_mean_square

FACTORS = ("row_velocity", "column_velocity", "row_instability", "column_instability")
"""Slots with a number per row or column."""


def rows_and_columns(rows, columns):
    return dict(zip(FACTORS, [(rows,), (columns,)] * 2, strict=True))


def divided(x: Array, r: Array, c: Array, xp: Namespace) -> Array:
    """Return an array divided by the root of the factored mean of rows and columns."""
    rows = xp.sqrt(r / xp.mean(r, axis=-1, keepdims=True))
    return x / (rows[..., :, None] * xp.sqrt(c)[..., None, :])


@rule(slots=("momentum", *FACTORS), kind="matrix", shapes=rows_and_columns)
def came(p, g, m, r, c, a, b, lr, b1, c1, b2, c2, b3, c3, eps, tiny, top, xp):
    squares = g * g + eps
    r = b2 * r + c2 * xp.mean(squares, axis=-1)
    c = b2 * c + c2 * xp.mean(squares, axis=-2)
    u = divided(g, r, c, xp)
    excess = root_mean_square(u, xp) / top
    u = u / xp.where(excess > 1, excess, 1)
    m = b1 * m + c1 * u
    unsteady = (u - m) * (u - m) + tiny
    a = b3 * a + c3 * xp.mean(unsteady, axis=-1)
    b = b3 * b + c3 * xp.mean(unsteady, axis=-2)
    return p - lr * divided(m, a, b, xp), m, r, c, a, b


def came_direction(p, g, m, v, b2, c2, eps, xp):
    v = b2 * v + c2 * (g * g + eps)
    return g / xp.sqrt(v), m, v


def came_shrink(size, p, d, top, xp):
    excess = d / xp.sqrt(xp.maximum(size, 1.0)) / top
    # A NaN norm must not limit anything, so that NaN stays in its own entry.
    return {"shrink": 1.0 / xp.where(excess > 1.0, excess, 1.0)}


@rule(
    slots=("momentum", "velocity"),
    direction=came_direction,
    ratio=came_shrink,
    measured=("shrink",),
)
def came_of_vectors(p, g, m, v, shrink, lr, b1, c1, xp):
    m = b1 * m + c1 * (shrink * g)
    return p - lr * m, m, v


@cache
def came_rule(outputs: Side) -> Rule:
    """Return the rule of matrices with the outputs along the given axis."""
    return oriented(came, outputs)


@register
class CAME(MatrixOptimizer):
    """Adafactor with momentum, damped by a factored estimate of the instability of its steps.

    For large models that need a small state but training as good as Adam's. 4 bytes of state per
    float32 parameter and 8 more per row and column of a matrix; 8 bytes per parameter of vectors
    and scalars.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean of steps, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running means of squares, per step.
    beta_3 : float in [0, 1) or schedule
        Decay rate of the running means of squared deviations, per step.
    epsilon_1 : float in [0, inf)
        Added to the squared gradient.
    epsilon_2 : float in [0, inf)
        Added to the squared deviation.
    clip_threshold : float in (0, inf] or schedule
        Bound on the root mean square of a step before it is averaged.
    outputs : {"first", "last"}
        How an array of more than two axes is reshaped to a matrix: its first or last axis is kept,
        the others are merged. Use ``"first"`` for torch kernels, ``"last"`` for Keras kernels.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` (shape of the parameter); for a matrix also ``row_velocity`` and
    ``row_instability`` (rows), ``column_velocity`` and ``column_instability`` (columns);
    ``velocity`` (shape of the parameter) for anything else, including complex parameters::

        r = beta_2 * r + (1 - beta_2) * mean over columns(g**2 + epsilon_1)
        c = beta_2 * c + (1 - beta_2) * mean over rows(g**2 + epsilon_1)
        u = g / sqrt(r * c / mean(r))                  # g / sqrt(v) of a vector
        u = u / max(1, rms(u) / clip_threshold)
        m = beta_1 * m + (1 - beta_1) * u
        a = beta_3 * a + (1 - beta_3) * mean over columns((u - m)**2 + epsilon_2)
        b = beta_3 * b + (1 - beta_3) * mean over rows((u - m)**2 + epsilon_2)
        p = p - lr * m / sqrt(a * b / mean(a))         # m itself of a vector

    As in the authors' code, except that it treats arrays of more than two axes as stacks of
    matrices of their last two. There is no bias correction: the first steps are long, so warm up
    `lr`.

    References
    ----------
    Luo, Ren, Zheng, Jiang, Jiang, You (2023), CAME: Confidence-guided Adaptive Memory Efficient
    Optimization, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([[1.0, -2.0], [2.0, 1.0]])
    >>> ao.CAME(lr=0.001).apply(np.array([[1.0, -1.0], [2.0, 2.0]]), w).round(4)
    array([[ 0.9889, -1.9889],
           [ 1.9889,  0.9889]])
    """

    lr: Number = hyper(default=0.0002, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the mean of steps.")
    beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of the means of squares."
    )
    beta_3: Number = hyper(
        default=0.9999, interval="[0, 1)", doc="Decay rate of the means of squared deviations."
    )
    epsilon_1: Number = hyper(
        default=1e-30, interval="[0, inf)", doc="Added to the squared gradient."
    )
    epsilon_2: Number = hyper(
        default=1e-16, interval="[0, inf)", doc="Added to the squared deviation."
    )
    clip_threshold: Number = hyper(
        default=1.0, interval="(0, inf]", doc="Bound on the root mean square of a step."
    )

    rest = came_of_vectors

    @property
    def rule(self) -> Rule:
        """The rule of matrices."""
        return came_rule(self.outputs)

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        return {
            "lr": h.lr,
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "b2": h.beta_2,
            "c2": 1.0 - h.beta_2,
            "b3": h.beta_3,
            "c3": 1.0 - h.beta_3,
            "eps": h.epsilon_1,
            "tiny": h.epsilon_2,
            "top": h.clip_threshold,
        }
