"""Muon."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import bias_correction, hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import MaybeNumber, Number, Whole, Words
from ..rules.rule import Rule, Side, rule
from ._matrices import MatrixOptimizer, oriented, orthogonalized
from .adam import adam


def larger(rows: int, columns: int, outputs: Side) -> float:
    return math.sqrt(max(rows, columns))


def widening(rows: int, columns: int, outputs: Side) -> float:
    return math.sqrt(max(1.0, rows / columns if outputs == "first" else columns / rows))


def none(rows: int, columns: int, outputs: Side) -> float:
    return 1.0


SCALES = {"rms": larger, "shape": widening, "none": none}


@cache
def muon_rule(steps: int, scaling: str, outputs: Side) -> Rule:
    """Return the rule with a number of iterations and a way to scale steps."""
    scale = SCALES[scaling]

    @rule(slots=("momentum",), kind="matrix")
    def muon(p, g, m, rate, mu, nu, ahead, now, a, b, c, tiny, xp):
        m = mu * m + nu * g
        u = orthogonalized(ahead * m + now * g, steps, tiny, (a, b, c), xp)
        return p - rate * scale(p.shape[-2], p.shape[-1], outputs) * u, m

    return oriented(muon, outputs)


@register
class Muon(MatrixOptimizer):
    """Step along the momentum with all its singular values brought near 1; Adam for the rest.

    For the weight matrices of transformers and other networks. 4 bytes of state per float32
    parameter of a matrix, 8 of vectors and numbers. A step costs 15 products of matrices by
    default. Embeddings and the last layer are better stepped by another optimizer, and a group
    says which these are: ``groups=[ao.group("embed*", "head*", optimizer=ao.AdamW(lr=1e-3))]``.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size; with ``scaling="rms"`` in the units of `Adam`. ``learning_rate`` is accepted.
    momentum : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    nesterov : bool
        Whether the mean is looked at one step ahead.
    ns_steps : int in [1, inf)
        Iterations of the polynomial. It is fixed once the state is compiled.
    scaling : {"rms", "shape", "none"}
        What a step is multiplied by: ``rms_rate * sqrt(max(rows, columns))``, or the root of
        outputs over inputs where that is more than 1, or nothing.
    rms_rate : float in [0, inf) or schedule
        Root mean square of a step of a matrix, in units of ``lr``; for ``scaling="rms"``.
    adam_lr_ratio : float in [0, inf) or schedule
        Step size for all that are no matrices, in units of ``lr``.
    adam_beta_1 : float in [0, 1) or schedule
        Decay rate of their running mean, per step.
    adam_beta_2 : float in [0, 1) or schedule
        Decay rate of their running mean of squares, per step.
    epsilon : float in [0, inf)
        Added to norms of matrices, and to the root for the rest.
    ns_a, ns_b, ns_c : float in (-inf, inf) or schedule
        The polynomial's factors of ``x``, ``x**3`` and ``x**5``; those of Jordan et al. unless said
        otherwise.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    outputs : {"first", "last"}
        Which axis counts the outputs of a layer. Of an array with more than two axes it stays, and
        the others become one. ``"first"`` is right for torch's kernels, ``"last"`` for Keras's.
    adam_weight_decay : float in [0, inf) or schedule, optional
        Decoupled weight decay of all that Adam steps; that of matrices, `weight_decay`, if None.
    exclude_layers : str or sequence of str
        Regular expressions of the paths of matrices that Adam steps.
    exclude_embeddings : bool
        Whether Adam steps matrices in whose path is the word embedding.
    **options
        What every optimizer takes by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slot ``momentum`` (shape of the parameter) of matrices; vectors, numbers and complex parameters
    have those of `Adam`::

        m = momentum * m + (1 - momentum) * g
        u = momentum * m + (1 - momentum) * g       # with nesterov; u = m without
        x = u / (|u| + epsilon)                     # the Euclidean norm over all entries
        x = a * x + b * x x' x + c * x x' x x' x    # ns_steps times, with 3.4445, -4.7750, 2.0315
        p = p - lr * scale * x

    The iteration ends with singular values between 0.7 and 1.2 and is not meant to converge. It is
    computed in the compute dtype; torch rounds it to bfloat16. optax corrects the bias of
    the mean where it looks ahead. ``scaling="shape"`` is torch's default and that of the authors;
    ``"rms"`` is Keras 3's. `weight_decay` takes ``lr`` times its share of all parameters, other
    than those that `adam_weight_decay` is said for.

    With ``preset="keras3"`` the momentum is the sum ``momentum * m + g``, arrays of more than two
    axes are left to Adam, and the number added to norms is 1e-7.

    References
    ----------
    Jordan et al. (2024), Muon: An optimizer for hidden layers in neural networks; for the scaling
    by `rms_rate` Liu et al. (2025), Muon is Scalable for LLM Training, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([[1.0, -2.0], [2.0, 1.0]])
    >>> ao.Muon(lr=0.1).apply(np.array([[3.0, 0.0], [0.0, 3.0]]), w).round(4)
    array([[ 0.9687, -2.    ],
           [ 2.    ,  0.9687]])
    """

    presets = forms(sum="keras3")

    lr: Number = hyper(default=0.001, interval="[0, inf)", doc="Step size.")
    momentum: Number = hyper(default=0.95, interval="[0, 1)", doc="Decay rate of the mean.")
    nesterov: bool = hyper(default=True, doc="Whether the mean is looked at one step ahead.")
    ns_steps: Whole = hyper(
        default=5, interval="[1, inf)", integer=True, static=True, doc="Iterations of a step."
    )
    scaling: str = hyper(
        default="rms",
        choices=("rms", "shape", "none"),
        doc="How steps depend on the shape of a matrix.",
    )
    rms_rate: Number = hyper(default=0.2, interval="[0, inf)", doc="Root mean square of a step.")
    adam_lr_ratio: Number = hyper(default=1.0, interval="[0, inf)", doc="Share of lr for the rest.")
    adam_beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of Adam's mean.")
    adam_beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of Adam's mean of squares."
    )
    epsilon: Number = hyper(default=1e-07, interval="[0, inf)", doc="Added to norms and roots.")
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")

    weight_decay: MaybeNumber = hyper(
        default=None,
        interval="[0, inf)",
        kw_only=True,
        elsewhere={"keras3": 0.004},
        doc="Decoupled weight decay: a step first takes lr times this share of the parameter.",
    )
    adam_weight_decay: MaybeNumber = hyper(
        default=None,
        interval="[0, inf)",
        kw_only=True,
        elsewhere={"keras3": 0.004},
        doc="Decoupled weight decay of all that Adam steps; weight_decay if None.",
    )
    exclude_layers: Words = hyper(
        default=(),
        words=True,
        kw_only=True,
        doc="Regular expressions of the paths of matrices that Adam steps.",
    )
    exclude_embeddings: bool = hyper(
        default=False,
        elsewhere={"keras3": True},
        kw_only=True,
        doc="Whether Adam steps matrices in whose path is the word embedding.",
    )

    ns_a: Number = hyper(
        default=3.4445, interval="(-inf, inf)", kw_only=True, doc="The polynomial's factor of x."
    )
    ns_b: Number = hyper(
        default=-4.775, interval="(-inf, inf)", kw_only=True, doc="Its factor of x**3."
    )
    ns_c: Number = hyper(
        default=2.0315, interval="(-inf, inf)", kw_only=True, doc="Its factor of x**5."
    )

    rest = adam

    @property
    def rule(self) -> Rule:
        """The rule of matrices."""
        return muon_rule(self.ns_steps, self.scaling, self.outputs)

    def rule_for(self, path: str, shape: tuple[int, ...]) -> Rule:
        """Return the rule of one parameter: Adam's where it is no matrix, or left out."""
        if self.form == "sum" and len(shape) != 2:
            return self.rest
        if self.exclude_embeddings and "embedding" in path.lower():
            return self.rest
        if any(re.search(pattern, path) for pattern in self.exclude_layers):
            return self.rest
        return super().rule_for(path, shape)

    def words_for(self, rule: Rule) -> Mapping[str, str]:
        """Return the weight decay that Adam's part has of its own."""
        own = rule is self.rest and self.adam_weight_decay is not None
        return {"weight_decay": "adam_weight_decay"} if own else {}

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        k1, k2 = (bias_correction(beta, it + 1, xp) for beta in (h.adam_beta_1, h.adam_beta_2))
        new = 1.0 if self.form == "sum" else 1.0 - h.momentum
        return {
            "rate": h.lr * h.rms_rate if self.scaling == "rms" else h.lr,
            "mu": h.momentum,
            "nu": new,
            "ahead": h.momentum if self.nesterov else 1.0,
            "now": new if self.nesterov else 0.0,
            "tiny": 1e-7 if self.form == "sum" else h.epsilon,
            "a": h.ns_a,
            "b": h.ns_b,
            "c": h.ns_c,
            "lr": h.lr * h.adam_lr_ratio * xp.sqrt(k2) / k1,
            "b1": h.adam_beta_1,
            "c1": 1.0 - h.adam_beta_1,
            "b2": h.adam_beta_2,
            "c2": 1.0 - h.adam_beta_2,
            "eps": h.epsilon,
        }
