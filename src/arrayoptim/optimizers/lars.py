"""LARS."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number
from ..optimizer import Optimizer
from ..rules.rule import Rule, rule


def lars_rate(size, p, g, lr, eta, eps, wd, xp):
    trust = eta * p / xp.where(g > 0, g + wd * p + eps, 1.0)
    return {"rate": lr * xp.where((p > 0) & (g > 0), trust, 1.0)}


@rule(slots=("momentum",), ratio=lars_rate, measured=("rate",))
def lars(p, g, m, mu, wd, rate, xp):
    m = mu * m + rate * (g + wd * p)
    return p - m, m


def lars_whole_direction(p, g, m, wd, xp):
    return g + wd * p, m


def lars_whole_rate(size, p, d, lr, eta, eps, xp):
    trust = eta * p / xp.where(d > 0, d + eps, 1.0)
    return {"rate": lr * xp.where((p > 0) & (d > 0), trust, 1.0)}


@rule(
    slots=("momentum",),
    direction=lars_whole_direction,
    ratio=lars_whole_rate,
    measured=("rate",),
)
def lars_whole(p, g, m, mu, rate, xp):
    m = mu * m + rate * g
    return p - m, m


@register
class LARS(Optimizer):
    """SGD with momentum and the step of each tensor scaled to the tensor's norm.

    For convolutional networks in large batches. 4 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Factor of the step size given by the trust ratio. ``learning_rate`` is accepted.
    momentum : float in [0, 1) or schedule
        Fraction of the previous step that is added to the next.
    trust_coefficient : float in [0, inf)
        Norm of a step, in units of the parameter's norm.
    epsilon : float in [0, inf)
        Added to the norms in the denominator.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slot ``momentum`` (shape of the parameter); ``|x|`` is the Euclidean norm over all entries of a
    parameter::

        rate = lr * trust_coefficient * |p| / (|g| + weight_decay * |p| + eps)
        m = momentum * m + rate * (g + weight_decay * p)
        p = p - m

    If the norm of the parameter or the gradient is 0, ``rate`` is ``lr``. `weight_decay` is part of
    the direction; there is no other decay. Biases and scales are usually stepped without a trust
    ratio: put them in a group with another optimizer, `SGD`.

    With ``preset="optax"`` the denominator is the norm of the sum, ``|g + weight_decay * p|``.

    References
    ----------
    You, Gitman and Ginsburg (2017), Large Batch Training of Convolutional Networks, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([3.0, -4.0])
    >>> ao.LARS(lr=1.0, trust_coefficient=0.1).apply(np.array([0.6, -0.8]), w).round(4)
    array([ 2.7, -3.6])
    """

    presets = forms("paper", whole="optax")

    lr: Number = hyper(default=0.1, interval="[0, inf)", doc="Step size.")
    momentum: Number = hyper(
        default=0.9,
        interval="[0, 1]",
        wider={"optax": "[0, inf)"},
        doc="Fraction of the previous step kept.",
    )
    trust_coefficient: Number = hyper(
        default=0.001, interval="[0, inf)", doc="Relative length of a step."
    )
    epsilon: Number = hyper(
        default=1e-08, elsewhere={"optax": 0.0}, interval="[0, inf)", doc="Added to the norms."
    )
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")

    @property
    def rule(self) -> Rule:
        """The update rule."""
        return lars_whole if self.form else lars

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        return {
            "lr": h.lr,
            "mu": h.momentum,
            "eta": h.trust_coefficient,
            "eps": h.epsilon,
            "wd": 0.0 if h.weight_decay is None else h.weight_decay,
        }
