"""AdEMAMix."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import bias_correction, hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import MaybeWhole, Number
from ..optimizer import Optimizer
from ..rules.rule import rule


@rule(slots=("momentum", "slow_momentum", "velocity"))
def ademamix(p, g, m, s, v, lr, b1, c1, b2, c2, c3, share, eps, xp):
    m = b1 * m + c1 * g
    s = s + c3 * (g - s)
    v = b2 * v + c2 * (g * g)
    return p - lr * ((m + share * s) / (xp.sqrt(v) + eps)), m, s, v


@register
class AdEMAMix(Optimizer):
    """Adam with a second, much slower running mean of the gradient.

    For long runs, where gradients of thousands of steps ago still help. 12 bytes of state per
    float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the fast running mean, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    beta_3 : float in [0, 1) or schedule
        Decay rate of the slow running mean, per step, once warmed up.
    alpha : float in [0, inf) or schedule
        Weight of the slow mean beside the fast one, once warmed up; 4 to 10 in the paper.
    epsilon : float in [0, inf)
        Added to the root, after the bias correction.
    alpha_warmup : int in [1, inf), optional
        Number of steps over which `alpha` grows from 0; no warm-up if None.
    beta_3_warmup : int in [1, inf), optional
        Number of steps over which `beta_3` grows from `beta_1`; no warm-up if None.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum``, ``slow_momentum`` and ``velocity`` (shape of the parameter); ``t`` counts
    steps from 1::

        m = b1 * m + (1 - b1) * g
        s = b3(t) * s + (1 - b3(t)) * g
        v = b2 * v + (1 - b2) * g**2
        u = m / (1 - b1**t) + alpha(t) * s
        p = p - lr * u / (sqrt(v / (1 - b2**t)) + eps)

    Until ``t`` reaches the end of a warm-up, ``alpha(t)`` grows linearly, and ``b3(t)`` such that
    ``1 / log(b3(t))``, the memory of the mean, changes linearly. In the paper both warm-ups last
    the whole training; without them, early steps may be too large.

    References
    ----------
    Pagliardini, Ablin, Grangier (2024), The AdEMAMix Optimizer: Better, Faster, Older, algorithm 1
    and section 3.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.AdEMAMix(lr=0.1, alpha_warmup=100, beta_3_warmup=100).apply(np.array([3.0, -4.0]), w)
    array([ 0.8999545, -1.8999545])
    """

    presets = forms("optax paper")

    lr: Number = hyper(default=0.001, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the fast mean.")
    beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    beta_3: Number = hyper(default=0.9999, interval="[0, 1)", doc="Decay rate of the slow mean.")
    alpha: Number = hyper(default=5.0, interval="[0, inf)", doc="Weight of the slow mean.")
    epsilon: Number = hyper(default=1e-08, interval="[0, inf)", doc="Added to the root.")
    alpha_warmup: MaybeWhole = hyper(
        default=None, interval="[1, inf)", integer=True, doc="Steps in which alpha grows."
    )
    beta_3_warmup: MaybeWhole = hyper(
        default=None, interval="[1, inf)", integer=True, doc="Steps in which beta_3 grows."
    )

    rule = ademamix

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        t = it + 1
        k1, k2 = (bias_correction(beta, t, xp) for beta in (h.beta_1, h.beta_2))
        alpha, c3 = h.alpha, 1.0 - h.beta_3
        if h.alpha_warmup is not None:
            alpha = alpha * xp.minimum(t / h.alpha_warmup, 1.0)
        if h.beta_3_warmup is not None:
            part = xp.minimum(t / h.beta_3_warmup, 1.0)
            memory = (1.0 - part) / xp.log(h.beta_1) + part / xp.log(h.beta_3)
            c3 = xp.where(part < 1.0, xp.maximum(-xp.expm1(1.0 / memory), c3), c3)
        return {
            "lr": h.lr * xp.sqrt(k2) / k1,
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "b2": h.beta_2,
            "c2": 1.0 - h.beta_2,
            "c3": c3,
            "share": alpha * k1,
            "eps": h.epsilon * xp.sqrt(k2),
        }
