"""AdaBelief."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import bias_correction, hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number
from ..optimizer import Optimizer
from ..rules.rule import rule


@rule(slots=("momentum", "velocity"))
def adabelief(p, g, m, s, lr, b1, c1, b2, c2, add, eps, xp):
    m = b1 * m + c1 * g
    d = g - m
    s = b2 * s + (c2 * (d * d) + add)
    return p - lr * (m / (xp.sqrt(s) + eps)), m, s


@register
class AdaBelief(Optimizer):
    """Step along the running mean of the gradient, scaled by how far gradients deviate from it.

    Longer steps than Adam's where the gradient keeps its size and sign, shorter ones where it
    varies. 8 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squared distances, per step.
    epsilon : float in [0, inf)
        Added to the mean of squares at each step, and to its root. With 0, a constant gradient
        makes the steps grow without bound.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``velocity``, the latter for ``s`` (shape of the parameter); ``t`` counts
    steps from 1::

        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m)**2 + eps
        p = p - lr * m / (1 - b1**t) / (sqrt(s / (1 - b2**t)) + eps)

    The default of epsilon is that of optax and of the authors' code; the paper has 1e-8. optax lets
    the two epsilons differ.

    References
    ----------
    Zhuang, Tang, Ding, Tatikonda, Dvornek, Papademetris, Duncan (2020), AdaBelief Optimizer:
    Adapting Stepsizes by the Belief in Observed Gradients, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.AdaBelief(lr=0.1).apply(np.array([3.0, -4.0]), w).round(4)
    array([ 0.8889, -1.8889])
    """

    presets = forms("optax paper")

    lr: Number = hyper(default=0.001, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    epsilon: Number = hyper(
        default=1e-16, interval="[0, inf)", doc="Added to the mean of squares and to its root."
    )

    rule = adabelief

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        k1, k2 = (bias_correction(beta, it + 1, xp) for beta in (h.beta_1, h.beta_2))
        return {
            "lr": h.lr * xp.sqrt(k2) / k1,
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "b2": h.beta_2,
            "c2": 1.0 - h.beta_2,
            "add": h.epsilon,
            "eps": h.epsilon * xp.sqrt(k2),
        }
