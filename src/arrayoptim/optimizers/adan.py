"""Adan."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import bias_correction, either, hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number
from ..optimizer import Optimizer
from ..rules.rule import Rule, rule


@rule(slots=("momentum", "difference", "velocity", "previous_grad"))
def adan(p, g, m, d, v, last, lr, b1, c1, b2, c2, b3, c3, known, share, eps, xp):
    change = known * (g - last)
    m = b1 * m + c1 * g
    d = b2 * d + c2 * change
    ahead = g + b2 * change
    v = b3 * v + c3 * (ahead * ahead)
    return p - lr * ((m + share * d) / (xp.sqrt(v) + eps)), m, d, v, g


@rule(slots=("momentum", "difference", "velocity", "previous_grad"))
def adan_optax(p, g, m, d, v, last, lr, b1, c1, b2, c2, b3, c3, known, share, inner, eps, xp):
    change = known * (g - last)
    m = b1 * m + c1 * g
    d = b2 * d + c2 * change
    ahead = g + c2 * change
    v = b3 * v + c3 * (ahead * ahead)
    return p - lr * ((m + share * d) / (xp.sqrt(v + inner) + eps)), m, d, v, g


@register
class Adan(Optimizer):
    """Adam with Nesterov's look-ahead, from the difference of successive gradients.

    Tolerates learning rates several times as large as Adam's, in vision and language models alike.
    16 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean of the gradient, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of the change of the gradient, per step.
    beta_3 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon : float in [0, inf)
        Added to the root, after the bias correction.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum``, ``difference``, ``velocity`` and ``previous_grad`` (shape of the parameter);
    ``t`` counts steps from 1, and the change is 0 in the first step::

        change = g - last
        m = b1 * m + (1 - b1) * g
        d = b2 * d + (1 - b2) * change
        v = b3 * v + (1 - b3) * (g + b2 * change)**2
        u = m / (1 - b1**t) + b2 * d / (1 - b2**t)
        p = p - lr * u / (sqrt(v / (1 - b3**t)) + eps)
        last = g

    The paper's betas are one minus these, and its algorithm omits the bias corrections, which its
    authors' code has. It divides by ``1 + lr * weight_decay`` after the step, while `weight_decay`
    here subtracts before it; the two differ by the square of that product. optax weights ``change``
    and ``d`` by ``1 - b2`` instead of ``b2``.

    With ``preset="optax"`` they are weighted by ``1 - b2``, and epsilon is also added inside the
    root.

    References
    ----------
    Xie, Zhou, Li, Lin, Yan (2022), Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing
    Deep Models, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.Adan(lr=0.1).apply(np.array([3.0, -4.0]), w).round(4)
    array([ 0.9, -1.9])
    """

    presets = forms(optax="optax")

    lr: Number = hyper(default=0.001, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(default=0.98, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: Number = hyper(default=0.92, interval="[0, 1)", doc="Decay rate of the mean change.")
    beta_3: Number = hyper(
        default=0.99, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    epsilon: Number = hyper(default=1e-08, interval="[0, inf)", doc="Added to the root.")

    @property
    def rule(self) -> Rule:
        """The update rule."""
        return adan_optax if self.form else adan

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        betas = h.beta_1, h.beta_2, h.beta_3
        k1, k2, k3 = (bias_correction(beta, it + 1, xp) for beta in betas)
        return {
            "lr": h.lr * xp.sqrt(k3) / k1,
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "b2": h.beta_2,
            "c2": 1.0 - h.beta_2,
            "b3": h.beta_3,
            "c3": 1.0 - h.beta_3,
            "known": either(it > 0, 1.0, 0.0, xp),
            "share": (1.0 - h.beta_2 if self.form else h.beta_2) * k1 / k2,
            "inner": h.epsilon * k3,
            "eps": h.epsilon * xp.sqrt(k3),
        }
