"""Adam-mini."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace

from .._typing import Array, Namespace, Scalar
from ..config.groups import matches
from ..config.hyper import bias_correction, hyper, square_root
from ..config.matrices import SplitHyper, Splits, sizes_of
from ..config.registry import register
from ..config.typed import Number, Words
from ..rules.rule import Rule, Shape, Side, rule
from ._matrices import MatrixOptimizer, oriented
from .adam import adam


def gathered(x: Array, sizes: tuple[int, ...], xp: Namespace) -> Array:
    """Return the mean of each run of numbers along the last axis."""
    if not sizes:
        return x
    parts, first = [], 0
    for size in sizes:
        parts.append(xp.mean(x[..., first : first + size], axis=-1, keepdims=True))
        first += size
    return xp.concat(parts, axis=-1)


def spread(x: Array, sizes: tuple[int, ...], xp: Namespace) -> Array:
    """Undo the shape of `gathered`: repeat each mean for every number of its run."""
    if not sizes:
        return x
    lead = tuple(x.shape[:-1])
    parts = [xp.broadcast_to(x[..., k : k + 1], (*lead, n)) for k, n in enumerate(sizes)]
    return xp.concat(parts, axis=-1)


@cache
def adam_mini_rule(sizes: tuple[int, ...], outputs: Side) -> Rule:
    """Return the rule of matrices with one mean per output, or one per block."""

    def shapes(rows: int, columns: int) -> dict[str, Shape]:
        return {"velocity": (len(sizes) or (rows if outputs == "first" else columns),)}

    @rule(slots=("momentum", "velocity"), kind="matrix", shapes=shapes)
    def adam_mini_rows(p, g, m, v, lr, b1, c1, b2, c2, eps, xp):
        m = b1 * m + c1 * g
        v = b2 * v + c2 * gathered(xp.mean(g * g, axis=-1), sizes, xp)
        return p - lr * (m / (spread(xp.sqrt(v), sizes, xp)[..., :, None] + eps)), m, v

    @rule(slots=("momentum", "velocity"), kind="matrix", shapes=shapes)
    def adam_mini_columns(p, g, m, v, lr, b1, c1, b2, c2, eps, xp):
        m = b1 * m + c1 * g
        v = b2 * v + c2 * gathered(xp.mean(g * g, axis=-2), sizes, xp)
        return p - lr * (m / (spread(xp.sqrt(v), sizes, xp)[..., None, :] + eps)), m, v

    return oriented(adam_mini_rows if outputs == "first" else adam_mini_columns, outputs)


def one(rows, columns):
    return {"velocity": (1,)}


@rule(slots=("momentum", "velocity"), kind="matrix", shapes=one)
def adam_mini_whole(p, g, m, v, lr, b1, c1, b2, c2, eps, xp):
    m = b1 * m + c1 * g
    v = b2 * v + c2 * xp.mean(xp.mean(g * g, axis=-1), axis=-1, keepdims=True)
    return p - lr * (m / (xp.sqrt(v)[..., :, None] + eps)), m, v


@register
class AdamMini(MatrixOptimizer):
    """Adam with one mean of squares per neuron, head or tensor.

    For transformers whose optimizer state should take half the memory of Adam's. 4 bytes of state
    per float32 parameter and 4 per output of a matrix; 8 bytes per parameter of vectors and
    scalars.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running means of squares, per step.
    epsilon : float in [0, inf)
        Added to the root, after the bias correction.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    outputs : {"first", "last"}
        Which axis of a matrix holds the outputs of a layer: ``"first"`` for torch kernels,
        ``"last"`` for Keras kernels.
    split : dict of str to int or tuple of int
        Path patterns, as in `group`, of matrices with one mean per block of outputs, each with the
        number of equal blocks or the number of outputs of each block: ``{"*q_proj*": heads}``, as
        the authors do for queries and keys.
    whole : str or sequence of str
        Path patterns of parameters with a single mean, as the authors do for normalisation scales.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` (shape of the parameter) and ``velocity``: for a matrix, one number per
    output, or per block of `split`, or a single one for parameters that `whole` names; vectors,
    scalars and complex parameters have that of `Adam`; ``t`` counts steps from 1::

        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * mean over the block(g**2)
        p = p - lr * m / (1 - beta_1**t) / (sqrt(v / (1 - beta_2**t)) + eps)

    The authors' code recognizes the layers of a transformer by their usual torch names; here the
    blocks of each layer are its outputs, as in that code for embeddings, values, projections, MLPs
    and the last layer, and `split` and `whole` name the others.

    References
    ----------
    Zhang, Chen, Li, Ding, Wu, Kingma, Ye, Luo, Sun (2024), Adam-mini: Use Fewer Learning Rates To
    Gain More, algorithms 1 to 3.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([[1.0, -2.0], [2.0, 1.0]])
    >>> ao.AdamMini(lr=0.1).apply(np.array([[3.0, 4.0], [1.0, 0.0]]), w).round(4)
    array([[ 0.9151, -2.1131],
           [ 1.8586,  1.    ]])
    """

    lr: Number = hyper(default=0.001, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of the means of squares."
    )
    epsilon: Number = hyper(default=1e-08, interval="[0, inf)", doc="Added to the root.")
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")
    split: Splits = hyper(
        default=(),
        kw_only=True,
        kind=SplitHyper,
        doc="Path patterns of matrices with a mean per block, with the number of blocks.",
    )
    whole: Words = hyper(
        default=(),
        words=True,
        kw_only=True,
        doc="Path patterns of parameters with a single mean.",
    )

    rest = adam

    @property
    def rule(self) -> Rule:
        """The rule of matrices with a mean for each output."""
        return adam_mini_rule((), self.outputs)

    def rule_for(self, path: str, shape: tuple[int, ...]) -> Rule:
        """Return the rule of one parameter: Adam's unless it is a matrix or named in `whole`."""
        if shape and any(matches(path, pattern) for pattern in self.whole):
            return adam_mini_whole
        if super().rule_for(path, shape) is self.rest:
            return self.rest
        outputs = shape[0 if self.outputs == "first" else -1]
        return adam_mini_rule(sizes_of(self.split, path, outputs), self.outputs)

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        k1, k2 = (bias_correction(beta, it + 1, xp) for beta in (h.beta_1, h.beta_2))
        root = square_root(k2, xp)
        return {
            "lr": h.lr * root / k1,
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "b2": h.beta_2,
            "c2": 1.0 - h.beta_2,
            "eps": h.epsilon * root,
        }
