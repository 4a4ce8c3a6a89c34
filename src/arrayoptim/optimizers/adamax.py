"""Adamax."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import bias_correction, hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number
from ..optimizer import Optimizer
from ..rules.rule import Rule, rule


@rule(slots=("momentum", "norm"))
def adamax(p, g, m, u, lr, b1, c1, b2, eps, xp):
    m = b1 * m + c1 * g
    u = xp.maximum(b2 * u, xp.abs(g))
    return p - lr * m / (u + eps), m, u


@rule(slots=("momentum", "norm"))
def adamax_inside(p, g, m, u, lr, b1, c1, b2, eps, xp):
    m = b1 * m + c1 * g
    u = xp.maximum(b2 * u, xp.abs(g) + eps)
    return p - lr * m / u, m, u


@register
class Adamax(Optimizer):
    """Step along the running mean of the gradient, divided by a decaying maximum of its magnitude.

    Adam with the infinity norm: more stable where single gradients are very large, as with
    embeddings. 8 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the maximum, per step.
    epsilon : float in [0, inf)
        Added to the maximum.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``norm`` (shape of the parameter); ``t`` counts steps from 1::

        m = b1 * m + (1 - b1) * g
        u = max(b2 * u, abs(g))
        p = p - lr / (1 - b1**t) * m / (u + eps)

    The paper has no epsilon; torch adds it to ``abs(g)`` inside the maximum.

    With ``preset="torch"`` or ``"optax"`` it is ``u = max(b2 * u, abs(g) + eps)`` and ``m / u``.

    References
    ----------
    Kingma and Ba (2015), Adam: A Method for Stochastic Optimization, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.Adamax(lr=0.1).apply(np.array([3.0, -4.0]), w).round(4)
    array([ 0.9, -1.9])
    """

    presets = forms("keras2 keras3 paper", inside="optax torch")

    lr: Number = hyper(
        default=0.002, elsewhere={"keras3": 0.001}, interval="[0, inf)", doc="Step size."
    )
    beta_1: Number = hyper(
        default=0.9, interval="[0, 1)", wider={"torch": "[0, inf)"}, doc="Decay rate of the mean."
    )
    beta_2: Number = hyper(
        default=0.999,
        interval="[0, 1)",
        wider={"keras3": "[0, 1]", "optax": "[0, 1]"},
        doc="Decay rate of the maximum.",
    )
    epsilon: Number = hyper(
        default=1e-08, elsewhere={"keras3": 1e-7}, interval="[0, inf)", doc="Added to the maximum."
    )
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")

    @property
    def rule(self) -> Rule:
        """The update rule."""
        return adamax_inside if self.form else adamax

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        return {
            "lr": h.lr / bias_correction(h.beta_1, it + 1, xp),
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "b2": h.beta_2,
            "eps": h.epsilon,
        }
