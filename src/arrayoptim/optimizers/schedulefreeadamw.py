"""Schedule-free Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import bias_correction, hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number, Whole
from ..rules.rule import Rule, rule
from .schedulefreesgd import ScheduleFree, weights


@rule(slots=("base", "velocity"))
def schedule_free_adamw(p, g, z, v, lr, c, step, b2, c2, k, eps, wd, xp):
    v = b2 * v + c2 * (g * g)
    d = g / (xp.sqrt(v * k) + eps) + wd * p
    return p + c * (z - p) - step * d, z - lr * d, v


@rule(slots=("base", "velocity"))
def schedule_free_adam(p, g, z, v, lr, c, step, b2, c2, k, eps, xp):
    v = b2 * v + c2 * (g * g)
    d = g / (xp.sqrt(v * k) + eps)
    return p + c * (z - p) - step * d, z - lr * d, v


@register
class ScheduleFreeAdamW(ScheduleFree):
    """AdamW that averages its iterates in place of a learning rate schedule.

    For training whose length is not known in advance. Compute gradients at the parameters;
    evaluate and keep the model that `averages` returns. 8 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    momentum : float in (0, 1)
        Weight of the mean in the point where gradients are evaluated, the paper's beta_1.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon : float in [0, inf)
        Added to the root.
    warmup_steps : int in [0, inf)
        Steps during which the step size grows to ``lr``.
    r : float in [0, inf) or schedule
        Power of the step number in the weight of a step in the mean.
    weight_lr_power : float in [0, inf) or schedule
        Power of the largest step size so far in that weight.
    **options
        Options of every optimizer, by keyword, such as `weight_decay`: see `Optimizer`.

    Notes
    -----
    Slots ``base``, the paper's z, initially the parameter, and ``velocity``, initially zero (each
    of the parameter's shape); the parameter is the paper's y, ``t`` counts steps from 0::

        eta = lr * min(1, (t + 1) / warmup_steps)
        w = (t + 1)**r * max(eta so far)**weight_lr_power;  c = w / sum(w so far)
        v = b2 * v + (1 - b2) * g**2
        d = g / (sqrt(v / (1 - b2**(t + 1))) + eps) + weight_decay * p
        p = p + c * (base - p) - eta * (1 - momentum * (1 - c)) * d
        base = base - eta * d

    The mean x is ``p + (1 - 1 / momentum) * (base - p)`` and has no slot: there is nothing to
    switch before evaluation. Do not set `momentum` between steps: x would jump. `weight_decay` acts
    on p and base alike, as in the paper, unlike in other optimizers. With `ema_momentum`,
    `averages` returns that average instead of x. The bias correction is under the root, as in the
    authors' code. Scalar state: ``weight_sum`` and ``lr_max``.

    With ``preset="keras3"`` all steps have the same weight, ``weight_lr_power=0``, and
    `weight_decay` acts on p alone, as in other optimizers.

    References
    ----------
    Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky (2024), The Road Less Scheduled,
    algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w, optimizer = np.array([1.0, -2.0]), ao.ScheduleFreeAdamW(lr=0.1)
    >>> for _ in range(2):
    ...     w = optimizer.apply(np.array([3.0, -4.0]), w)
    >>> w.round(4), optimizer.averages(w).round(4)
    (array([ 0.845, -1.845]), array([ 0.85, -1.85]))
    """

    presets = forms(apart="keras3")

    lr: Number = hyper(default=0.0025, interval="[0, inf)", doc="Step size.")
    momentum: Number = hyper(default=0.9, interval="(0, 1)", doc="Weight of the mean in the point.")
    beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    epsilon: Number = hyper(default=1e-08, interval="[0, inf)", doc="Added to the root.")
    warmup_steps: Whole = hyper(
        default=0, interval="[0, inf)", integer=True, doc="Steps until the full step size."
    )
    r: Number = hyper(default=0.0, interval="[0, inf)", doc="Power of the step number in weights.")
    weight_lr_power: Number = hyper(
        default=2.0,
        elsewhere={"keras3": 0.0},
        interval="[0, inf)",
        doc="Power of the step size in weights.",
    )

    @property
    def rule(self) -> Rule:
        """The rule, with decay of both points or of neither."""
        return schedule_free_adam if self.form == "apart" else schedule_free_adamw

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        return weights(h, h.momentum, it, scalars, xp) | {
            "b2": h.beta_2,
            "c2": 1.0 - h.beta_2,
            "k": 1.0 / bias_correction(h.beta_2, it + 1, xp),
            "eps": h.epsilon,
        }
