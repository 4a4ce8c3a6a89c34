"""Schedule-free stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Array, Namespace, Scalar
from ..config.hyper import hyper
from ..config.registry import register
from ..config.typed import Number, Whole
from ..numerics.slots import Start
from ..optimizer import Optimizer
from ..rules.rule import rule


@rule(slots=("base",))
def schedule_free_sgd(p, g, z, lr, c, step, wd, xp):
    d = g + wd * p
    return p + c * (z - p) - step * d, z - lr * d


def weights(
    h: SimpleNamespace, beta: Scalar, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
) -> dict[str, Scalar]:
    """Compute the shared coefficients of both methods: step sizes and weights of the mean."""
    # TensorFlow does not promote integers to floats.
    ramp = xp.maximum(xp.asarray(h.warmup_steps, dtype=xp.asarray(0.0).dtype), 1.0)
    lr = h.lr * xp.where(it < h.warmup_steps, (it + 1.0) / ramp, 1.0)
    lr_max = xp.maximum(lr, scalars["lr_max"])
    weight = (it + 1.0) ** h.r * lr_max**h.weight_lr_power
    weight_sum = scalars["weight_sum"] + weight
    c = xp.where(weight_sum > 0.0, weight / weight_sum, 0.0)
    step = lr * (1.0 - beta * (1.0 - c))
    wd = 0.0 if h.weight_decay is None else h.weight_decay
    return {"lr": lr, "c": c, "step": step, "wd": wd, "lr_max": lr_max, "weight_sum": weight_sum}


class ScheduleFree(Optimizer):
    """The state of both schedule-free methods, and the mean that follows from it."""

    def initial_scalars(self) -> dict[str, float]:
        """Return the sum of the weights and the largest step size so far."""
        return {"weight_sum": 0.0, "lr_max": 0.0}

    def scalars_after(self, iterations: int) -> dict[str, float]:
        """Return the sum of the weights if all steps have the same weight."""
        h = self._hyper
        alike = not (callable(h["r"]) or callable(h["weight_lr_power"]))
        if alike and h["r"] == h["weight_lr_power"] == 0:
            return {"weight_sum": float(iterations)}
        return {}

    def initial_slots(self) -> dict[str, Start]:
        """Return the initial base."""
        return {"base": "parameter"}

    def average(self, h: SimpleNamespace, p: Array, slots: Mapping[str, Array]) -> Array:
        """Return the mean x."""
        return p + (1.0 - 1.0 / h.momentum) * (slots["base"] - p)


@register
class ScheduleFreeSGD(ScheduleFree):
    """SGD that averages its iterates in place of a learning rate schedule.

    For training whose length is not known in advance. Compute gradients at the parameters;
    evaluate and keep the model that `averages` returns. 4 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of parameter per gradient. ``learning_rate`` is accepted.
    momentum : float in (0, 1)
        Weight of the mean in the point where gradients are evaluated, the paper's beta.
    warmup_steps : int in [0, inf)
        Steps during which the step size grows to ``lr``.
    r : float in [0, inf) or schedule
        Power of the step number in the weight of a step in the mean.
    weight_lr_power : float in [0, inf) or schedule
        Power of the largest step size so far in that weight.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slot ``base``, the paper's z (shape of the parameter), is initially the parameter, which is the
    paper's y; ``t`` counts steps from 0::

        eta = lr * min(1, (t + 1) / warmup_steps)
        w = (t + 1)**r * max(eta so far)**weight_lr_power;  c = w / sum(w so far)
        d = g + weight_decay * p
        p = p + c * (base - p) - eta * (1 - momentum * (1 - c)) * d
        base = base - eta * d

    The mean x is ``p + (1 - 1 / momentum) * (base - p)`` and has no slot: there is nothing to
    switch before evaluation. Do not set `momentum` between steps: x would jump. `weight_decay` acts
    on p and base alike, as in the authors' code, unlike in other optimizers. With `ema_momentum`,
    `averages` returns that average instead of x. Scalar state: ``weight_sum`` and ``lr_max``.

    References
    ----------
    Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky (2024), The Road Less Scheduled, equations
    3 to 5, with the weights of theorem 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w, optimizer = np.array([1.0, -2.0]), ao.ScheduleFreeSGD(lr=0.5)
    >>> for _ in range(2):
    ...     w = optimizer.apply(np.array([1.0, 1.0]), w)
    >>> w, optimizer.averages(w)
    (array([ 0.225, -2.775]), array([ 0.25, -2.75]))
    """

    lr: Number = hyper(default=1.0, interval="[0, inf)", doc="Step size.")
    momentum: Number = hyper(default=0.9, interval="(0, 1)", doc="Weight of the mean in the point.")
    warmup_steps: Whole = hyper(
        default=0, interval="[0, inf)", integer=True, doc="Steps until the full step size."
    )
    r: Number = hyper(default=0.0, interval="[0, inf)", doc="Power of the step number in weights.")
    weight_lr_power: Number = hyper(
        default=2.0, interval="[0, inf)", doc="Power of the step size in weights."
    )

    rule = schedule_free_sgd

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        return weights(h, h.momentum, it, scalars, xp)
