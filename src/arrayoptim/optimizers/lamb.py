"""LAMB."""

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


def lamb_direction(p, g, m, v, b1, c1, b2, c2, k1, k2, eps, wd, xp):
    m = b1 * m + c1 * g
    v = b2 * v + c2 * (g * g)
    return (m / k1) / (xp.sqrt(v / k2) + eps) + wd * p, m, v


def lamb_apart_direction(p, g, m, v, b1, c1, b2, c2, k1, k2, eps, xp):
    m = b1 * m + c1 * g
    v = b2 * v + c2 * (g * g)
    return (m / k1) / (xp.sqrt(v / k2) + eps), m, v


def lamb_rate(size, p, d, lr, xp):
    return {"rate": lr * xp.where((p > 0) & (d > 0), p / xp.where(d > 0, d, 1.0), 1.0)}


@rule(slots=("momentum", "velocity"), direction=lamb_direction, ratio=lamb_rate, measured=("rate",))
def lamb(p, g, m, v, rate, xp):
    return p - rate * g, m, v


@rule(
    slots=("momentum", "velocity"),
    direction=lamb_apart_direction,
    ratio=lamb_rate,
    measured=("rate",),
)
def lamb_apart(p, g, m, v, rate, xp):
    return p - rate * g, m, v


@register
class LAMB(Optimizer):
    """Adam with the step of each tensor scaled to the tensor's norm.

    For large batches. 8 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Norm of a step, in units of the parameter's norm. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon : float in [0, inf)
        Added to the root.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``velocity`` (shape of the parameter); ``t`` counts steps from 1, and
    ``|x|`` is the Euclidean norm over all entries of a parameter::

        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        d = m / (1 - b1**t) / (sqrt(v / (1 - b2**t)) + eps) + weight_decay * p
        p = p - lr * |p| / |d| * d          # lr * d where either norm is 0

    `weight_decay` is part of the direction here; there is no other decay. The paper allows for a
    function of ``|p|``, which is the identity here, as in optax.

    With ``preset="keras3"`` `weight_decay` is not part of the direction, but a decay before the
    step, as for other optimizers.

    References
    ----------
    You et al. (2020), Large Batch Optimization for Deep Learning: Training BERT in 76 minutes,
    algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([3.0, -4.0])
    >>> ao.LAMB(lr=0.1).apply(np.array([1.0, -1.0]), w).round(4)
    array([ 2.6464, -3.6464])
    """

    presets = forms("optax paper", apart="keras3")

    lr: Number = hyper(default=0.001, interval="[0, inf)", doc="Relative length of a step.")
    beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    epsilon: Number = hyper(
        default=1e-06, elsewhere={"keras3": 1e-7}, interval="[0, inf)", doc="Added to the root."
    )
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")

    @property
    def rule(self) -> Rule:
        """The update rule."""
        return lamb_apart if self.form else lamb

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        t = it + 1
        return {
            "lr": h.lr,
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "b2": h.beta_2,
            "c2": 1.0 - h.beta_2,
            "k1": bias_correction(h.beta_1, t, xp),
            "k2": bias_correction(h.beta_2, t, xp),
            "eps": h.epsilon,
            "wd": 0.0 if h.weight_decay is None else h.weight_decay,
        }
