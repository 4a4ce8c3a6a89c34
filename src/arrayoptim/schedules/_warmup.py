"""Schedules that start low: warm-up, one cycle, warm-up-stable-decay, the momentum ramp."""

from __future__ import annotations

from typing import Any

from .._typing import Namespace, Scalar
from ..config.fields import choice, number
from ..config.hyper import either
from ._base import Schedule, greater, lesser, register
from ._keras import COUNT, POSITIVE, half_cosine


@register
class LinearWarmup(Schedule):
    """Rise linearly, then stay constant.

    Parameters
    ----------
    warmup_target : float
        Value from step `warmup_steps` on.
    warmup_steps : float in (0, inf)
        Steps of the rise.
    initial_learning_rate : float
        Value of the first step.
    name : str, optional
        An arbitrary name.

    Notes
    -----
    The first step uses `initial_learning_rate`, so it changes nothing if that is 0.
    torch's ``LinearLR`` starts at a third of the target by default.

    Examples
    --------
    >>> import arrayoptim as ao
    >>> rate = ao.schedules.LinearWarmup(0.5, warmup_steps=100)
    >>> rate(0), rate(50), rate(200)
    (0.0, 0.25, 0.5)
    """

    warmup_target: Any = number("Value after the rise.")
    warmup_steps: Any = number("Steps of the rise.", POSITIVE)
    initial_learning_rate: Any = number("Value of the first step.", default=0.0)

    def value(self, t: Scalar, xp: Namespace) -> Scalar:
        """Compute the value at a step."""
        x = lesser(t, self.warmup_steps, xp) / self.warmup_steps
        return between(self.initial_learning_rate, self.warmup_target, x)


@register
class OneCycle(Schedule):
    """Rise to a peak, then fall far below the initial value.

    Parameters
    ----------
    max_learning_rate : float
        Value at the peak.
    total_steps : int in [2, inf)
        Steps of the run; the last one, ``total_steps - 1``, has the final value.
    pct_start : float in [0, 1]
        Fraction of the run before the peak.
    div_factor : float in (0, inf)
        The first value is the peak divided by this.
    final_div_factor : float in (0, inf)
        The final value is the first one divided by this.
    anneal_strategy : {"cos", "linear"}
        Whether values change along half a cosine or a straight line.
    name : str, optional
        An arbitrary name.

    Notes
    -----
    Names and values are those of torch's ``OneCycleLR``, whose peak is at
    ``pct_start * total_steps - 1``; if that is 0 or less, the run starts at the peak. The peak and
    the end of optax's ``cosine_onecycle_schedule`` come one step later. What torch does to momentum
    meanwhile is the same schedule with factors below 1.

    References
    ----------
    Smith and Topin (2018), Super-Convergence: Very Fast Training of Neural Networks Using Large
    Learning Rates.

    Examples
    --------
    >>> import arrayoptim as ao
    >>> rate = ao.schedules.OneCycle(0.5, total_steps=101, pct_start=0.5)
    >>> momentum = ao.schedules.OneCycle(
    ...     0.85, total_steps=101, div_factor=0.85 / 0.95, final_div_factor=1.0
    ... )
    >>> opt = ao.SGD(lr=rate, momentum=momentum)
    >>> opt.lr, round(opt.momentum, 12)
    (0.02, 0.95)
    """

    max_learning_rate: Any = number("Value at the peak.")
    total_steps: Any = number("Steps of the run.", "[2, inf)", integer=True)
    pct_start: Any = number("Fraction of the run before the peak.", "[0, 1]", default=0.3)
    div_factor: Any = number("Peak over first value.", POSITIVE, default=25.0)
    final_div_factor: Any = number("First over final value.", POSITIVE, default=1e4)
    anneal_strategy: str = choice("The form of the curve.", "cos", "linear", default="cos")

    def value(self, t: Scalar, xp: Namespace) -> Scalar:
        """Compute the value at a step."""
        last = self.total_steps - 1.0
        peak = max(self.pct_start * self.total_steps - 1.0, 0.0)
        first = self.max_learning_rate / self.div_factor
        fallen = greater(lesser(t, last, xp) - peak, 0.0, xp) / max(last - peak, 1e-9)
        fall = self._along(self.max_learning_rate, first / self.final_div_factor, fallen, xp)
        if peak == 0.0:
            return fall
        risen = lesser(t, peak, xp) / peak
        rise = self._along(first, self.max_learning_rate, risen, xp)
        return either(t < peak, rise, fall, xp)

    def _along(self, a: float, b: float, x: Scalar, xp: Namespace) -> Scalar:
        return between(a, b, 1.0 - half_cosine(x, xp) if self.anneal_strategy == "cos" else x)


@register
class WarmupStableDecay(Schedule):
    """Rise, stay constant for most of the run, then decay.

    The constant phase can be extended, as its value does not depend on the length of the run.

    Parameters
    ----------
    max_learning_rate : float
        Value of the constant phase.
    warmup_steps, stable_steps, decay_steps : int in [0, inf)
        Steps of each phase.
    initial_learning_rate : float
        Value of the first step.
    end_learning_rate : float
        Value after the last phase.
    decay : {"linear", "cosine", "sqrt"}
        How the value decays: as ``1 - x``, along half a cosine, or as ``1 - sqrt(x)``, where ``x``
        is the elapsed fraction of the last phase.
    name : str, optional
        An arbitrary name.

    References
    ----------
    Hu et al. (2024), MiniCPM: Unveiling the Potential of Small Language Models with Scalable
    Training Strategies, section 4; Hägele et al. (2024), Scaling Laws and Compute-Optimal Training
    Beyond Fixed Training Durations, for ``"sqrt"``.

    Examples
    --------
    >>> import arrayoptim as ao
    >>> rate = ao.schedules.WarmupStableDecay(
    ...     0.5, warmup_steps=10, stable_steps=80, decay_steps=20
    ... )
    >>> [rate(t) for t in (5, 10, 90, 100, 110)]
    [0.25, 0.5, 0.5, 0.25, 0.0]
    """

    max_learning_rate: Any = number("Value of the constant phase.")
    warmup_steps: Any = number("Steps of the rise.", COUNT, integer=True)
    stable_steps: Any = number("Steps that stay.", COUNT, integer=True)
    decay_steps: Any = number("Steps of the fall.", COUNT, integer=True)
    initial_learning_rate: Any = number("Value of the first step.", default=0.0)
    end_learning_rate: Any = number("Value at the end.", default=0.0)
    decay: str = choice("How the value falls.", "linear", "cosine", "sqrt", default="linear")

    def value(self, t: Scalar, xp: Namespace) -> Scalar:
        """Compute the value at a step."""
        warm, start = self.warmup_steps, self.warmup_steps + self.stable_steps
        risen = lesser(t, warm, xp) / max(warm, 1)
        x = lesser(greater(t - start, 0.0, xp) / max(self.decay_steps, 1), 1.0, xp)
        shapes = {"cosine": lambda: 1.0 - half_cosine(x, xp), "sqrt": lambda: xp.sqrt(x)}
        fallen = shapes.get(self.decay, lambda: x)()
        if self.decay_steps == 0:
            # TensorFlow would not give two plain numbers the dtype of the step.
            fallen = lesser(greater(t - start + 1.0, 0.0, xp), 1.0, xp)
        fall = between(self.max_learning_rate, self.end_learning_rate, fallen)
        rise = between(self.initial_learning_rate, self.max_learning_rate, risen)
        return either(t < warm, rise, fall, xp)


@register
class MomentumRamp(Schedule):
    """natural_bm's momentum ramp: from half of the goal up to it, and half again at the end.

    Parameters
    ----------
    momentum : float
        The goal, which is also the value of the first step.
    schedule_decay : float in [0, inf)
        Rate of the ramp, per step.
    mom_iter_max : int in [0, inf)
        Steps until the ramp ends.
    name : str, optional
        An arbitrary name.

    Notes
    -----
    The first step uses the goal itself. The step after the one numbered ``it``, counted from 0,
    uses ``momentum * (1 - 0.5 * 0.96**(it * s)) * (1 - 0.5 * 0.96**((M - it) * s))`` while ``it <
    M`` and ``momentum / 2`` from then on, with ``s`` for `schedule_decay` and ``M`` for
    `mom_iter_max`. ``SGD(momentum=MomentumRamp(m, s, M))`` computes the same as ``SGD(momentum=m,
    schedule_decay=s, mom_iter_max=M)``, without that scalar in its state.

    Examples
    --------
    >>> import arrayoptim as ao
    >>> ramp = ao.schedules.MomentumRamp(0.9)
    >>> ramp(0), round(ramp(1), 6), round(ramp(100_000), 6), ramp(500_000)
    (0.9, 0.45, 0.9, 0.45)
    """

    momentum: Any = number("The goal.")
    schedule_decay: Any = number("Rate per step.", COUNT, default=0.004)
    mom_iter_max: Any = number("Steps of the ramp.", COUNT, default=475000, integer=True)

    def value(self, t: Scalar, xp: Namespace) -> Scalar:
        """Compute the value at a step."""
        it = xp.maximum(t - 1.0, 0.0)
        share = ramp(it, self.schedule_decay, self.mom_iter_max, xp)
        return self.momentum * xp.where(t < 1.0, 1.0, share)


def ramp(it: Scalar, rate: Scalar, last: Scalar, xp: Namespace) -> Scalar:
    """Return natural_bm's momentum after a step, as a fraction of the goal.

    Parameters
    ----------
    it : int
        The step, counted from 0.
    rate : float
        Rate per step.
    last : int
        The step at which the ramp ends.
    xp : module
        Array functions.
    """
    rise = 1.0 - 0.5 * 0.96 ** (it * rate)
    fall = 1.0 - 0.5 * 0.96 ** (xp.maximum(last - it, 0) * rate)
    return xp.where(it < last, rise * fall, 0.5)


def between(a: float, b: float, x: Scalar) -> Scalar:
    """Return the number that lies the share `x` of the way from `a` to `b`."""
    return a + (b - a) * x
