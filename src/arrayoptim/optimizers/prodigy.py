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

    Needs no learning rate tuning; schedules multiply its estimate. 16 bytes of state per float32
    parameter, and two passes over the arrays.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Factor of the step size: 1, or a schedule that starts at 1. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon : float in [0, inf)
        Added to the root, in units of the step size.
    d0 : float in (0, inf)
        Initial estimate of the distance, which should be too small.
    d_coef : float in (0, inf) or schedule
        Factor of the estimate; larger for larger steps.
    growth_rate : float in (1, inf) or schedule, optional
        Maximum growth factor of the distance per step, after it first grew; None for no limit.
    bias_correction : bool
        Whether to apply Adam's bias correction to the step size.
    safeguard_warmup : bool
        Whether to leave the step size out of the estimate's denominator, for warm-up schedules.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum``, ``velocity``, ``slope_sum`` and ``initial`` (shape of the parameter);
    ``initial`` is the parameter before the first step, always in the compute dtype. Scalar state
    ``d``, ``first`` (`d0`), ``farthest`` and ``numerator``. Sums are over all entries of all
    parameters with a gradient; ``b3`` is ``sqrt(beta_2)``, ``w`` is ``d`` with `safeguard_warmup`
    and ``d * lr * k`` without. With `bias_correction` ``k`` is ``sqrt(1 - beta_2**t) / (1 -
    beta_1**t)``, otherwise 1::

        m = b1 * m + d * (1 - b1) * g
        v = b2 * v + d**2 * (1 - b2) * g**2
        s = b3 * s + d / d0 * w * g
        numerator = b3 * numerator + d / d0 * d * lr * k * sum(g * (p0 - p))
        estimate = d_coef * numerator / sum(|s|)
        farthest = max(farthest, estimate)
        new = max(d, estimate) if d == d0 else d
        new = min(farthest, new * growth_rate)
        p = p - d * lr * k * (weight_decay * p + m / (sqrt(v) + new * eps))

    with ``new`` as ``d`` of the next step. This is the authors' code; in the paper ``new = max(d,
    estimate)``, as here without `growth_rate`. A step in which every ``s`` is 0 changes no
    parameter. Each group has its own estimate; parameters that `exclude` exempts from decay share
    it with the others. A NaN gradient makes the scalars NaN permanently: `nonfinite` can skip such
    steps.

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

    lr: Number = hyper(default=1.0, interval="[0, inf)", doc="Factor of the step size.")
    beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    epsilon: Number = hyper(default=1e-08, interval="[0, inf)", doc="Added to the root, relative.")
    d0: float = hyper(default=1e-06, interval="(0, inf)", doc="First estimate of the distance.")
    d_coef: Number = hyper(default=1.0, interval="(0, inf)", doc="Factor of the estimate.")
    growth_rate: MaybeNumber = hyper(
        default=None, interval="(1, inf)", doc="Most growth in one step."
    )
    bias_correction: bool = hyper(default=False, doc="Whether the step size is corrected.")
    safeguard_warmup: bool = hyper(default=False, doc="Whether to leave lr out of the estimate.")

    rule = prodigy

    def initial_slots(self) -> dict[str, Start]:
        """Return the initial slots."""
        return {"initial": "parameter"}

    def initial_scalars(self) -> dict[str, float]:
        """Return the scalars besides the step count."""
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
        # Not h.d0, which is rounded to the compute dtype and may differ from the initial state.
        d = xp.where(d == scalars["first"], xp.maximum(d, estimate), d)
        bound = farthest if h.growth_rate is None else d * h.growth_rate
        return xp.minimum(farthest, bound), farthest, numerator
