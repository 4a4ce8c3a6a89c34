"""SM3."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import hyper
from ..config.registry import register
from ..config.typed import Number
from ..rules.rule import Rule, rule
from ._matrices import MatrixOptimizer, oriented


def rows_and_columns(rows, columns):
    return {"row_accumulator": (rows,), "column_accumulator": (columns,)}


@rule(
    slots=("momentum", "row_accumulator", "column_accumulator"),
    kind="matrix",
    shapes=rows_and_columns,
)
def sm3(p, g, m, r, c, lr, b1, c1, b2, c2, eps, xp):
    v = b2 * xp.minimum(r[..., :, None], c[..., None, :]) + c2 * (g * g)
    m = b1 * m + c1 * (g / xp.sqrt(v + eps))
    return p - lr * m, m, xp.max(v, axis=-1), xp.max(v, axis=-2)


@rule(slots=("momentum", "accumulator"))
def sm3_of_vectors(p, g, m, a, lr, b1, c1, b2, c2, eps, xp):
    a = b2 * a + c2 * (g * g)
    m = b1 * m + c1 * (g / xp.sqrt(a + eps))
    return p - lr * m, m, a


@register
class SM3(MatrixOptimizer):
    """Adagrad with bounds on the sums of squares per row and column.

    For sparse gradients and large embeddings, where the sums would take as much memory as the
    parameters. 4 bytes of state per float32 parameter for the momentum, and 4 per row and column of
    a matrix; 8 bytes per parameter of vectors and scalars.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    momentum : float in [0, 1) or schedule
        Decay rate of the running mean of steps.
    rho : float in (0, 1] or schedule
        Decay rate of the sums of squares: 1 for plain sums, otherwise a running mean.
    epsilon : float in (0, inf)
        Added to the sum under the root.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    outputs : {"first", "last"}
        How an array of more than two axes is reshaped to a matrix: its first or last axis is kept,
        the others are merged. Use ``"first"`` for torch kernels, ``"last"`` for Keras kernels.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` (shape of the parameter), ``row_accumulator`` (rows) and
    ``column_accumulator`` (columns) for a matrix, ``accumulator`` (shape of the parameter) for
    anything else, including complex parameters::

        v = min(r of the row, c of the column) + g**2        # a + g**2 of a vector
        r = max of v over columns;  c = max of v over rows
        m = momentum * m + (1 - momentum) * g / sqrt(v + eps)
        p = p - lr * m

    The paper has no epsilon and defines 0 / 0 as 0; optax adds the same epsilon. For arrays of more
    than two axes the paper and optax keep a bound for each index of each axis.

    References
    ----------
    Anil, Gupta, Koren and Singer (2019), Memory-Efficient Adaptive Optimization, algorithm SM3-II.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([[1.0, -2.0], [2.0, 1.0]])
    >>> ao.SM3(lr=0.1, momentum=0.0).apply(np.array([[3.0, -4.0], [0.0, 2.0]]), w).round(4)
    array([[ 0.9, -1.9],
           [ 2. ,  0.9]])
    """

    lr: Number = hyper(default=0.1, interval="[0, inf)", doc="Step size.")
    momentum: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the mean of steps.")
    rho: Number = hyper(default=1.0, interval="(0, 1]", doc="Decay rate of the sums of squares.")
    epsilon: Number = hyper(default=1e-08, interval="(0, inf)", doc="Added under the root.")
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")

    rest = sm3_of_vectors

    @property
    def rule(self) -> Rule:
        """The rule of matrices."""
        return oriented(sm3, self.outputs)

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
        }
