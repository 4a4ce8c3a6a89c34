"""Shampoo."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

from .._typing import Array, Namespace, Scalar
from ..arrays.libraries import backend_of
from ..config.hyper import hyper
from ..config.registry import register
from ..config.typed import Number, Whole
from ..engines.host import on_gpu
from ..rules.rule import Rule, Shape, Side, rule
from ._matrices import (
    PreconditionedOptimizer,
    due,
    eigenvectors,
    euclidean,
    gathered,
    identity,
    oriented,
    sides,
    transposed,
    turned,
    when,
)

SQUARE = ("row_statistics", "column_statistics", "row_root", "column_root")
"""Slots of shape (side, side)."""


SMALLEST = 1e-3
"""What the largest eigenvalue may become in a step of `factors`, and so lose in precision."""


@cache
def factors(power: int, low: float) -> tuple[tuple[float, float], ...]:
    """Return for each step of an iteration the two coefficients of a polynomial.

    With eigenvalues ``x`` between `low` and 1, a step of ``x = x * (a - b * x)**power`` brings all
    of them as near to 1 as a step can that makes none larger; the last one to 1, up to rounding.
    """
    found, enough, done = [], low**0.5, False
    while not done:
        done = 1.0 - low < enough
        # At both ends of the interval the polynomial has the same value.
        end = min(max(low, SMALLEST), 1.0 - 1e-9)
        ratio = (1.0 - end ** (1 / power)) / (1.0 - end ** (1 + 1 / power))
        a = ((power + 1) * ratio) ** (1 / power) * (power + 1) / power
        b = ratio * a
        found.append((a, b))
        low = min(low * (a - b * low) ** power, (a - b) ** power)
    return tuple(found)


def multiplied_out(s: Array, eps: Scalar, power: int, xp: Namespace) -> Array:
    """Return the inverse second or fourth root of ``s + eps``, by products of matrices alone.

    Eigenvalues below the spacing of numbers at the largest one are not told from that.
    """
    product, unit = backend_of(s).product, identity(s.shape[-1], s)
    m = s + eps * unit
    size = euclidean(m, xp)
    m, x = m / size, unit
    *steps, last = factors(power, float(xp.finfo(s.dtype).eps))
    for k, (a, b) in enumerate(steps):
        t = a * unit - b * m
        x = product(x, t) if k else t
        square = product(t, t)
        m = product(product(square, square) if power == 4 else square, m)
    size = xp.sqrt(size)
    a, b = last
    return product(x, a * unit - b * m) / (xp.sqrt(size) if power == 4 else size)


def root(s: Array, eps: Scalar, alone: bool, xp: Namespace) -> Array:
    """Return the inverse fourth root of ``s + eps``, or square root if `alone`."""

    def powers(s: Array, eps: Scalar) -> tuple[Array, Array]:
        values, q = eigenvectors(s, xp)
        # Rounding may make a zero eigenvalue negative.
        x = 1 / xp.sqrt(xp.where(values > 0, values, 0) + eps)
        return (x if alone else xp.sqrt(x)), q

    def value(s: Array, eps: Scalar) -> Array:
        if on_gpu(s):
            # There, a decomposition takes several times as long as 40 products.
            with backend_of(s).exactly():
                return multiplied_out(s, eps, 2 if alone else 4, xp)
        x, q = powers(s, eps)
        return xp.matmul(q * x[..., None, :], transposed(q, xp))

    def slope(given: Any, made: Any, moves: Any) -> Array:
        # Eigenvectors of equal eigenvalues have no derivative, but the root has: by the difference
        # quotients of the power, here in a form in which nothing is subtracted.
        x, q = powers(*given)
        a, b = x[..., :, None], x[..., None, :]
        quotient = -(a * b) * (a * b) / (a + b)
        quotient = quotient if alone else quotient * (a * b) * (a * b) / (a * a + b * b)
        ds, de = moves
        move = turned(ds, q, xp) + de * turned(xp.eye(ds.shape[-1], dtype=ds.dtype), q, xp)
        return turned(quotient * move, transposed(q, xp), xp)

    found: Array = backend_of(s).sloped(value, slope)(s, eps)
    return found


def renewed(
    now: Scalar, r: Array, c: Array, a: Array, b: Array, eps: Scalar, xp: Namespace
) -> tuple[Array, Array]:
    """Return the roots of this step, recomputed if due."""
    rows, columns = a.shape[-1] > 0, b.shape[-1] > 0

    def anew() -> tuple[Array, Array]:
        x = root(r, eps, not columns, xp) if rows else a
        return x, root(c, eps, not rows, xp) if columns else b

    found: tuple[Array, Array] = when(now > 0, anew, lambda: (a, b), r)
    return found


def multiplied(x: Array, a: Array, b: Array, xp: Namespace) -> Array:
    """Return ``a x b``, skipping empty factors."""
    x = xp.matmul(a, x) if a.shape[-1] else x
    return xp.matmul(x, b) if b.shape[-1] else x


@cache
def shampoo_rule(longest: int, outputs: Side) -> Rule:
    """Return the rule for a maximum size of sides with a root."""

    def shapes(rows: int, columns: int) -> dict[str, Shape]:
        return dict(zip(SQUARE, sides(rows, columns, longest) * 2, strict=True))

    @rule(slots=("momentum", *SQUARE), kind="matrix", shapes=shapes)
    def shampoo(p, g, m, r, c, a, b, lr, b1, c1, b2, c2, eps, now, xp):
        m = b1 * m + c1 * g
        r = gathered(r, g, b2, c2, xp)
        c = gathered(c, transposed(g, xp), b2, c2, xp)
        a, b = renewed(now, r, c, a, b, eps, xp)
        return p - lr * multiplied(m, a, b, xp), m, r, c, a, b

    return oriented(shampoo, outputs)


@rule(slots=("momentum", "accumulator"))
def shampoo_of_vectors(p, g, m, a, lr, b1, c1, b2, c2, eps, xp):
    m = b1 * m + c1 * g
    a = b2 * a + c2 * (g * g)
    return p - lr * (m / xp.sqrt(a + eps)), m, a


@register
class Shampoo(PreconditionedOptimizer):
    """Precondition the gradient on both sides by inverse fourth roots of sums of g g' and g' g.

    For weight matrices of moderate size. 4 bytes of state per float32 parameter for the momentum,
    and another ``8 * (n**2 + k**2)`` for a matrix with sides ``n`` and ``k``; 8 bytes per parameter
    of vectors and scalars. Every `precondition_frequency` steps there is an eigendecomposition per
    side; a step costs two products of matrices and two more of each side's own size.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size. It is about the size of all singular values of a matrix's first step.
        ``learning_rate`` is accepted.
    momentum : float in [0, 1) or schedule
        Decay rate of the running mean of gradients.
    rho : float in (0, 1] or schedule
        Decay rate of the sums of products: 1 for plain sums, otherwise a running mean.
    epsilon : float in (0, inf)
        Added to the eigenvalues of the sums, and to the sums of squares of vectors.
    precondition_frequency : int in [1, inf) or schedule
        Number of steps between computations of the roots.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    max_precondition_dim : int in [1, inf)
        Longest side that is multiplied by a root; if both are longer the step is that of vectors.
        Fixed once a step is compiled.
    outputs : {"first", "last"}
        How an array of more than two axes is reshaped to a matrix: its first or last axis is kept,
        the others are merged. Use ``"first"`` for torch kernels, ``"last"`` for Keras kernels.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slot ``momentum`` (shape of the parameter); for a matrix also ``row_statistics`` and
    ``row_root`` (rows, rows), ``column_statistics`` and ``column_root`` (columns, columns), both
    (0, 0) for a side that is too long. Anything else, including complex parameters, has
    ``accumulator`` (shape of the parameter). With ``t`` the number of steps before this one::

        m = momentum * m + (1 - momentum) * g
        r = r + g g';  c = c + g' g
        a = (r + eps)**(-1/4)                   # where t is a multiple of
        b = (c + eps)**(-1/4)                   # precondition_frequency
        p = p - lr * a m b                      # a vector: s = s + g**2
                                                #           p = p - lr * m / sqrt(s + eps)

    With ``rho`` below 1 sums become ``rho * r + (1 - rho) * g g'``. If one side is too long, the
    power is -1/2 for the other one. A parameter whose first gradient comes late starts at the next
    step in which roots are computed. On a GPU an iteration of matrix products computes them, which
    leaves eigenvalues below the spacing of numbers at a matrix's norm inexact.

    Algorithm 1 of the paper is this with its defaults, and `momentum` and `rho` as they are here.
    Stale roots, means instead of sums and single-sided preconditioning are additions of the second
    paper; its grafting, by which each step gets the length of another optimizer's, is not included.
    For arrays of more than two axes the paper has a root per axis, and so has pytorch_optimizer,
    which also gives vectors a full matrix, takes no step before its first computation of roots, and
    with momentum mixes the last preconditioned step into the gradient.

    References
    ----------
    Gupta, Koren and Singer (2018), Shampoo: Preconditioned Stochastic Tensor Optimization,
    algorithm 1; Anil, Gupta, Koren, Regan and Singer (2020), Scalable Second Order Optimization for
    Deep Learning.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([[1.0, -2.0], [2.0, 1.0]])
    >>> ao.Shampoo(lr=0.1).apply(np.array([[3.0, 0.0], [0.0, 4.0]]), w).round(4)
    array([[ 0.9, -2. ],
           [ 2. ,  0.9]])
    """

    lr: Number = hyper(default=0.1, interval="[0, inf)", doc="Step size.")
    momentum: Number = hyper(default=0.0, interval="[0, 1)", doc="Decay rate of the mean.")
    rho: Number = hyper(default=1.0, interval="(0, 1]", doc="Decay rate of the sums of products.")
    epsilon: Number = hyper(default=1e-04, interval="(0, inf)", doc="Added to the eigenvalues.")
    precondition_frequency: Whole = hyper(
        default=1, interval="[1, inf)", integer=True, doc="Steps between computations of the roots."
    )
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")

    rest = shampoo_of_vectors

    @property
    def rule(self) -> Rule:
        """The rule of matrices."""
        return shampoo_rule(self.max_precondition_dim, self.outputs)

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        return {
            "lr": h.lr,
            "b1": h.momentum,
            "c1": 1.0 - h.momentum,
            "b2": h.rho,
            "c2": xp.where(h.rho < 1.0, 1.0 - h.rho, 1.0),
            "eps": h.epsilon,
            "now": due(it, h.precondition_frequency, xp),
        }
