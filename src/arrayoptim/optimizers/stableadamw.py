"""StableAdamW."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import bias_correction, hyper
from ..config.registry import register
from ..config.typed import Number
from ..optimizer import Optimizer
from ..rules.rule import rule


def stable_adamw_direction(p, g, m, v, b1, c1, b2, c2, eps, xp):
    m = b1 * m + c1 * g
    v = b2 * v + c2 * (g * g)
    return g / xp.maximum(xp.sqrt(v), eps), m, v


def stable_adamw_rate(size, p, d, lr, xp):
    rms = d / xp.sqrt(xp.maximum(size, 1.0))
    # Not a maximum: a NaN norm would spoil the whole step instead of single entries.
    return {"rate": lr / xp.where(rms > 1.0, rms, 1.0)}


@rule(
    slots=("momentum", "velocity"),
    direction=stable_adamw_direction,
    ratio=stable_adamw_rate,
    measured=("rate",),
)
def stable_adamw(p, g, m, v, rate, eps, wd, xp):
    return p - rate * (wd * p) - rate * (m / (xp.sqrt(v) + eps)), m, v


@register
class StableAdamW(Optimizer):
    """AdamW that shortens the step of a tensor whose gradient has suddenly grown.

    Withstands the loss spikes of large transformers without gradient clipping. 8 bytes of state per
    float32 parameter, and two passes over the arrays.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon : float in (0, inf)
        Added to the root.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``velocity`` (shape of the parameter); ``t`` counts steps from 1, and
    the mean is over all entries of a tensor::

        b1, b2 = beta_1 * (1 - beta_1**(t - 1)) / (1 - beta_1**t), and beta_2 likewise
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        rate = lr / max(1, sqrt(mean(g**2 / max(v, eps**2))))
        p = p - rate * weight_decay * p - rate * m / (sqrt(v) + eps)

    The step-dependent decay rates replace bias corrections. Unlike in other optimizers,
    `weight_decay` is multiplied by the clipped rate, as in the paper. pytorch_optimizer has the
    same step; its `weight_decay` is 0.01 by default.

    References
    ----------
    Wortsman et al. (2023), Stable and low-precision training for large-scale vision-language
    models, algorithm 2; Shazeer and Stern (2018), Adafactor, section 6, for the clipping.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> optimizer, w = ao.StableAdamW(lr=0.1), np.array([1.0, -2.0])
    >>> optimizer.apply(np.array([1.0, 1.0]), w)
    array([ 0.9, -2.1])
    >>> optimizer.apply(np.array([100.0, 1.0]), w).round(4)
    array([ 0.8387, -2.1818])
    """

    lr: Number = hyper(default=0.001, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: Number = hyper(
        default=0.99, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    epsilon: Number = hyper(default=1e-08, interval="(0, inf)", doc="Added to the root.")
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")

    rule = stable_adamw

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        c1 = (1.0 - h.beta_1) / bias_correction(h.beta_1, it + 1, xp)
        c2 = (1.0 - h.beta_2) / bias_correction(h.beta_2, it + 1, xp)
        return {
            "lr": h.lr,
            "b1": 1.0 - c1,
            "c1": c1,
            "b2": 1.0 - c2,
            "c2": c2,
            "eps": h.epsilon,
            "wd": 0.0 if h.weight_decay is None else h.weight_decay,
        }
