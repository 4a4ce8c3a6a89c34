"""Prodigy."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import bias_correction, hyper
from ..config.registry import register
from ..config.typed import MaybeNumber, Number
from ..numerics.slots import Start
from ..optimizer import Optimizer
from ..rules.rule import rule


def prodigy_means(p, g, m, v, s, a, b1, c1, b2, c2, b3, c3, xp):
    return g, b1 * m + c1 * g, b2 * v + c2 * (g * g), b3 * s + c3 * g, a


def prodigy_progress(p, g, m, v, s, a, xp):
    return g * (a - p), xp.abs(s)


@rule(
    slots=("momentum", "velocity", "slope_sum", "initial"),
    direction=prodigy_means,
    measure=prodigy_progress,
    sums=("progress", "slopes"),
    exact=("initial",),
)
def prodigy(p, g, m, v, s, a, rate, eps, wd, xp):
    return p - rate * (wd * p) - rate * (m / (xp.sqrt(v) + eps)), m, v, s, a


@register
class Prodigy(Optimizer):
    """Adam whose learning rate follows from an estimated distance to the solution.

    Needs no tuned learning rate; schedules multiply its estimate. 16 bytes of state per float32
    parameter, and two passes over the arrays.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        What the step size is multiplied by; 1 or a schedule from 1. ``learning_rate`` is
        accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon : float in [0, inf)
        Added to the root, in units of the step size.
    d0 : float in (0, inf)
        First estimate of the distance, which should be too small.
    d_coef : float in (0, inf) or schedule
        What the estimate is multiplied by; larger for larger steps.
    growth_rate : float in (1, inf) or schedule, optional
        Most by which the distance is multiplied in one step, after it first grew; None for any.
    bias_correction : bool
        Whether the step size has the bias correction of Adam.
    safeguard_warmup : bool
        Whether the step size is left out of the estimate's divisor, for schedules that warm up.
    **options
        What every optimizer takes by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum``, ``velocity``, ``slope_sum`` and ``initial`` (shape of the parameter);
    ``initial`` is the parameter before the first step, always in the compute dtype.
    Numbers ``d``, ``first`` (`d0`), ``farthest`` and ``numerator``. Sums are over all entries of
    all parameters that have a gradient; ``b3`` is ``sqrt(beta_2)``, ``w`` is ``d`` with
    `safeguard_warmup` and ``d * lr * k`` without. With `bias_correction` ``k`` is
    ``sqrt(1 - beta_2**t) / (1 - beta_1**t)``, without 1::

        m = b1 * m + d * (1 - b1) * g
        v = b2 * v + d**2 * (1 - b2) * g**2
        s = b3 * s + d / d0 * w * g
        numerator = b3 * numerator + d / d0 * d * lr * k * sum(g * (p0 - p))
        estimate = d_coef * numerator / sum(|s|)
        farthest = max(farthest, estimate)
        new = max(d, estimate) if d == d0 else d
        new = min(farthest, new * growth_rate)
        p = p - d * lr * k * (weight_decay * p + m / (sqrt(v) + new * eps))

    with ``new`` for ``d`` at the next step. This is the authors' program; in the paper
    ``new = max(d, estimate)``, which it is here too without `growth_rate`. A step in which every
    ``s`` is 0 changes no parameter. The parameters of each group count by
    themselves, those that `exclude` keeps from decay with the others.
    A gradient that is NaN makes the numbers NaN for good: `nonfinite` can leave such steps out.

    References
    ----------
    Mishchenko and Defazio (2023), Prodigy: An Expeditiously Adaptive Parameter-Free Learner,
    algorithm 4.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> optimizer, w = ao.Prodigy(d0=0.01), np.array([3.0, -4.0])
    >>> for _ in range(100):
    ...     w = optimizer.apply(w, w)
    >>> bool(np.max(np.abs(w)) < 0.5)
    True
    """

    lr: Number = hyper(default=1.0, interval="[0, inf)", doc="What the step size is multiplied by.")
    beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    epsilon: Number = hyper(default=1e-08, interval="[0, inf)", doc="Added to the root, relative.")
    d0: float = hyper(default=1e-06, interval="(0, inf)", doc="First estimate of the distance.")
    d_coef: Number = hyper(default=1.0, interval="(0, inf)", doc="What the estimate is scaled by.")
    growth_rate: MaybeNumber = hyper(
        default=None, interval="(1, inf)", doc="Most growth in one step."
    )
    bias_correction: bool = hyper(default=False, doc="Whether the step size is corrected.")
    safeguard_warmup: bool = hyper(default=False, doc="Whether lr is out of the estimate.")

    rule = prodigy

    def initial_slots(self) -> dict[str, Start]:
        """Return what slots begin with."""
        return {"initial": "parameter"}

    def initial_scalars(self) -> dict[str, float]:
        """Return the numbers that are kept beside the count."""
        return dict.fromkeys(("d", "first", "farthest"), self.d0) | {"numerator": 0.0}

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        d, b3 = scalars["d"], h.beta_2**0.5
        rate, grown = d * h.lr, d / scalars["first"]
        if h.bias_correction:
            rate = rate * xp.sqrt(bias_correction(h.beta_2, it + 1, xp))
            rate = rate / bias_correction(h.beta_1, it + 1, xp)
        new, farthest, numerator = self._estimate(h, scalars, b3, grown * rate, xp)
        moved = scalars["slopes"] > 0
        return {
            "b1": h.beta_1,
            "c1": d * (1.0 - h.beta_1),
            "b2": h.beta_2,
            "c2": d * d * (1.0 - h.beta_2),
            "b3": b3,
            "c3": grown * (d if h.safeguard_warmup else rate),
            "rate": xp.where(moved, rate, 0.0),
            "eps": new * h.epsilon,
            "wd": 0.0 if h.weight_decay is None else h.weight_decay,
            "d": xp.where(moved, new, d),
            "first": scalars["first"],
            "farthest": xp.where(moved, farthest, scalars["farthest"]),
            "numerator": xp.where(moved, numerator, scalars["numerator"]),
        }

    def _estimate(
        self,
        h: SimpleNamespace,
        scalars: Mapping[str, Scalar],
        b3: Scalar,
        weight: Scalar,
        xp: Namespace,
    ) -> tuple[Scalar, Scalar, Scalar]:
        """Return the next distance, the largest estimate, and the estimate's numerator."""
        numerator = b3 * scalars["numerator"] + weight * scalars["progress"]
        slopes = scalars["slopes"]
        estimate = h.d_coef * numerator / xp.where(slopes > 0, slopes, 1.0)
        d, farthest = scalars["d"], xp.maximum(scalars["farthest"], estimate)
        # Not h.d0: rounded to the compute dtype it is not what the state began with.
        d = xp.where(d == scalars["first"], xp.maximum(d, estimate), d)
        bound = farthest if h.growth_rate is None else d * h.growth_rate
        return xp.minimum(farthest, bound), farthest, numerator
