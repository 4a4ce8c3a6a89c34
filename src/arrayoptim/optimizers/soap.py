"""SOAP."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace

from .._typing import Array, Namespace, Scalar
from ..arrays.libraries import backend_of
from ..config.hyper import bias_correction, hyper
from ..config.registry import register
from ..config.typed import MaybeNumber, Number, Whole
from ..rules.rule import Rule, Shape, Side, rule
from ._matrices import (
    PreconditionedOptimizer,
    due,
    eigenvectors,
    gathered,
    oriented,
    orthonormal,
    sides,
    transposed,
    when,
)
from .adam import adam

SQUARE = ("row_statistics", "column_statistics", "row_basis", "column_basis")
"""Slots of shape (side, side)."""


def begun(a: Array, b: Array, xp: Namespace) -> Array:
    """Return 1 for matrices that have bases, otherwise 0, with two trailing axes of length 1."""
    q = a if a.shape[-1] else b
    backend, size = backend_of(q), xp.sum(q * q, axis=(-2, -1), keepdims=True)
    return backend.cast(size > 0, backend.dtype(size))


def rotated(x: Array, a: Array, b: Array, xp: Namespace) -> Array:
    """Return ``a' x b``, skipping empty factors."""
    x = xp.matmul(transposed(a, xp), x) if a.shape[-1] else x
    return xp.matmul(x, b) if b.shape[-1] else x


def following(s: Array, q: Array, known: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return the next basis, and the order into which the last one's columns were sorted."""
    product = xp.matmul(s, q)
    order = xp.argsort(-xp.sum(q * product, axis=-2), axis=-1)
    product = xp.take_along_axis(product, order[..., None, :], axis=-1)

    def followed() -> Array:
        return orthonormal(product, xp)

    def started() -> Array:
        return xp.where(known > 0, followed(), eigenvectors(s, xp)[1])

    return when(xp.min(known) > 0, followed, started, s), order


def refreshed(
    now: Scalar, v: Array, r: Array, c: Array, a: Array, b: Array, xp: Namespace
) -> tuple[Array, Array, Array]:
    """Return the bases of the next steps, and the squares sorted like them, if an update is due."""

    def anew() -> tuple[Array, Array, Array]:
        known, x, rows, columns = begun(a, b, xp), v, a, b
        if a.shape[-1]:
            rows, order = following(r, a, known, xp)
            x = xp.take_along_axis(x, order[..., :, None], axis=-2)
        if b.shape[-1]:
            columns, order = following(c, b, known, xp)
            x = xp.take_along_axis(x, order[..., None, :], axis=-1)
        return x, rows, columns

    found: tuple[Array, Array, Array] = when(now > 0, anew, lambda: (v, a, b), v)
    return found


@cache
def soap_rule(longest: int, outputs: Side) -> Rule:
    """Return the rule for a maximum size of sides with a basis."""

    def shapes(rows: int, columns: int) -> dict[str, Shape]:
        return dict(zip(SQUARE, sides(rows, columns, longest) * 2, strict=True))

    @rule(slots=("momentum", "velocity", *SQUARE), kind="matrix", shapes=shapes)
    def soap(p, g, m, v, r, c, a, b, rate, b1, c1, b2, c2, b3, c3, eps, now, xp):
        m = b1 * m + c1 * (begun(a, b, xp) * g)
        u = rotated(g, a, b, xp)
        v = b2 * v + c2 * (u * u)
        u = rotated(m, a, b, xp) / (xp.sqrt(v) + eps)
        p = p - rate * rotated(u, transposed(a, xp), transposed(b, xp), xp)
        r = gathered(r, g, b3, c3, xp)
        c = gathered(c, transposed(g, xp), b3, c3, xp)
        v, a, b = refreshed(now, v, r, c, a, b, xp)
        return p, m, v, r, c, a, b

    return oriented(soap, outputs)


@register
class SOAP(PreconditionedOptimizer):
    """Adam in the eigenbasis of running means of g g' and g' g, updated every few steps.

    For the weight matrices of transformers and other networks. 8 bytes of state per float32
    parameter, and another ``8 * (n**2 + k**2)`` for a matrix with sides ``n`` and ``k``. A step
    costs six products of matrices and two more of each side's own size; every
    `precondition_frequency` steps there is a QR decomposition per side.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in the units of `Adam`. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    shampoo_beta : float in [0, 1) or schedule, optional
        Decay rate of the mean products of gradients, per step; `beta_2` if None.
    epsilon : float in (0, inf)
        Added to the root, before the bias correction.
    precondition_frequency : int in [1, inf) or schedule
        Number of steps between updates of the bases.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    max_precondition_dim : int in [1, inf)
        Longest side that gets a basis; a longer one is not rotated, and if both are longer the step
        is Adam's. Fixed once a step is compiled.
    outputs : {"first", "last"}
        How an array of more than two axes is reshaped to a matrix: its first or last axis is kept,
        the others are merged. Use ``"first"`` for torch kernels, ``"last"`` for Keras kernels.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``velocity`` (shape of the parameter); for a matrix also
    ``row_statistics`` and ``row_basis`` (rows, rows), ``column_statistics`` and ``column_basis``
    (columns, columns), both (0, 0) for a side that is too long. Vectors, scalars and complex
    parameters have the formula of `Adam`, or of `AdamW` with `weight_decay`. With ``t`` the number
    of steps before this one::

        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * (a' g b)**2
        u = (a' m b) / (sqrt(v) + eps)
        p = p - lr * sqrt(1 - b2**t) / (1 - b1**t) * a u b'
        r = shampoo_beta * r + (1 - shampoo_beta) * g g'
        c = shampoo_beta * c + (1 - shampoo_beta) * g' g
        a = Q of the QR decomposition of r a        # where t is a multiple of
        b = Q of the QR decomposition of c b        # precondition_frequency

    The first bases are the eigenvectors of the first ``r`` and ``c``. The paper does not specify
    the start; as in its authors' code, the first step moves no matrix and initializes neither ``m``
    nor ``v``, so that no gradient is projected to a basis computed from itself. A parameter whose
    first gradient comes later starts at the next update of the bases. Columns of ``r a`` are sorted
    by their eigenvalues before the decomposition, and ``v`` with them, as in that code but not in
    the paper.

    Decompositions are computed in the compute dtype; the authors' code and its copy in
    pytorch_optimizer round to float32 for the QR decomposition. They give each axis of an array of
    more than two axes a basis, also skip a vector's first step, and apply weight decay after the
    step. Signs of eigenvectors make no difference. If the first gradient does not have full rank,
    its eigenvectors are not unique, and the first steps differ between libraries. Derivatives
    through a step ignore the rotation of these, which has none.

    References
    ----------
    Vyas, Morwani, Zhao, Shapira, Brandfonbrener, Janson and Kakade (2024), SOAP: Improving and
    Stabilizing Shampoo using Adam, algorithms 3 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w, optimizer = np.array([[1.0, -2.0], [2.0, 1.0]]), ao.SOAP(lr=0.1)
    >>> for _ in range(2):
    ...     w = optimizer.apply(np.array([[3.0, 0.0], [0.0, 4.0]]), w)
    >>> w.round(4)
    array([[ 0.9, -2. ],
           [ 2. ,  0.9]])
    """

    lr: Number = hyper(default=0.003, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(default=0.95, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: Number = hyper(
        default=0.95, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    shampoo_beta: MaybeNumber = hyper(
        default=None, interval="[0, 1)", doc="Decay rate of the mean products of gradients."
    )
    epsilon: Number = hyper(default=1e-08, interval="(0, inf)", doc="Added to the root.")
    precondition_frequency: Whole = hyper(
        default=10, interval="[1, inf)", integer=True, doc="Steps between updates of the bases."
    )
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")

    rest = adam

    @property
    def rule(self) -> Rule:
        """The rule of matrices."""
        return soap_rule(self.max_precondition_dim, self.outputs)

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""

        def rate(t: Scalar) -> Scalar:
            k1, k2 = (bias_correction(beta, t, xp) for beta in (h.beta_1, h.beta_2))
            return h.lr * xp.sqrt(k2) / k1

        b3 = h.beta_2 if h.shampoo_beta is None else h.shampoo_beta
        return {
            "rate": rate(xp.maximum(it, 1.0)),
            "lr": rate(it + 1),
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "b2": h.beta_2,
            "c2": 1.0 - h.beta_2,
            "b3": b3,
            "c3": 1.0 - b3,
            "eps": h.epsilon,
            "now": due(it, h.precondition_frequency, xp),
        }
