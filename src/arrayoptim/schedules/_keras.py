"""The schedules of Keras 3, with its names and values."""

from __future__ import annotations

import math
from typing import Any

from .._typing import Namespace, Scalar
from ..config.fields import flag, number, numbers
from ..config.hyper import either
from ._base import Schedule, greater, lesser, register

POSITIVE, COUNT = "(0, inf)", "[0, inf)"


@register
class ExponentialDecay(Schedule):
    """Multiply by the same factor every `decay_steps` steps.

    Parameters
    ----------
    initial_learning_rate : float
        Value of the first step.
    decay_steps : float in (0, inf)
        Steps over which the value is multiplied by `decay_rate` once.
    decay_rate : float in [0, inf)
        The factor.
    staircase : bool
        Whether the value changes only every `decay_steps` steps.
    name : str, optional
        An arbitrary name.

    Notes
    -----
    ``initial_learning_rate * decay_rate**(t / decay_steps)``, with the floor of the exponent for
    `staircase`; ``t`` counts steps from 0.

    Examples
    --------
    >>> import arrayoptim as ao
    >>> ao.schedules.ExponentialDecay(0.1, decay_steps=100, decay_rate=0.5)(200)
    0.025
    """

    initial_learning_rate: Any = number("Value of the first step.")
    decay_steps: Any = number("Steps per factor.", POSITIVE)
    decay_rate: Any = number("The factor.", COUNT)
    staircase: bool = flag("Whether the value changes in jumps.", default=False)

    def value(self, t: Scalar, xp: Namespace) -> Scalar:
        """Compute the value at a step."""
        p = _periods(t, self, xp)
        return self.initial_learning_rate * self.decay_rate**p


@register
class InverseTimeDecay(Schedule):
    """Divide by a number that grows linearly with the steps.

    Parameters
    ----------
    initial_learning_rate : float
        Value of the first step.
    decay_steps : float in (0, inf)
        Steps over which the divisor grows by `decay_rate`.
    decay_rate : float in [0, inf)
        Growth of the divisor.
    staircase : bool
        Whether the value changes only every `decay_steps` steps.
    name : str, optional
        An arbitrary name.

    Notes
    -----
    ``initial_learning_rate / (1 + decay_rate * t / decay_steps)``, with the floor of
    ``t / decay_steps`` for `staircase`; ``t`` counts steps from 0.

    Examples
    --------
    >>> import arrayoptim as ao
    >>> ao.schedules.InverseTimeDecay(0.1, decay_steps=100, decay_rate=1.0)(300)
    0.025
    """

    initial_learning_rate: Any = number("Value of the first step.")
    decay_steps: Any = number("Steps per growth.", POSITIVE)
    decay_rate: Any = number("Growth of the divisor.", COUNT)
    staircase: bool = flag("Whether the value changes in jumps.", default=False)

    def value(self, t: Scalar, xp: Namespace) -> Scalar:
        """Compute the value at a step."""
        return self.initial_learning_rate / (1.0 + self.decay_rate * _periods(t, self, xp))


@register
class PiecewiseConstantDecay(Schedule):
    """Use a constant value up to each boundary.

    Parameters
    ----------
    boundaries : list of float
        The last step of each value but the last, increasing.
    values : list of float
        The values, one more than there are boundaries.
    name : str, optional
        An arbitrary name.

    Notes
    -----
    ``values[0]`` holds for ``t <= boundaries[0]``, thus for one step more than the boundary, as
    ``t`` counts from 0. `join` switches at the boundary itself.

    Examples
    --------
    >>> import arrayoptim as ao
    >>> rate = ao.schedules.PiecewiseConstantDecay([100, 200], [0.1, 0.01, 0.001])
    >>> rate(100), rate(101), rate(201)
    (0.1, 0.01, 0.001)
    """

    boundaries: Any = numbers("Last steps of values.", increasing=True)
    values: Any = numbers("The values.")

    def _agree(self) -> None:
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"PiecewiseConstantDecay: found {len(self.values)} values for "
                f"{len(self.boundaries)} boundaries, wanted {len(self.boundaries) + 1}"
            )

    def value(self, t: Scalar, xp: Namespace) -> Scalar:
        """Compute the value at a step."""
        found = self.values[0]
        for boundary, value in zip(self.boundaries, self.values[1:], strict=True):
            found = xp.where(t > boundary, value, found)
        return found


@register
class PolynomialDecay(Schedule):
    """Decay from one value to another along a power of the remaining steps.

    Parameters
    ----------
    initial_learning_rate : float
        Value of the first step.
    decay_steps : float in (0, inf)
        Steps until the final value is reached.
    end_learning_rate : float
        The final value.
    power : float in [0, inf)
        The power; 1 is a straight line.
    cycle : bool
        Whether to restart from an intermediate value, over ever longer periods, each of which ends
        at a multiple of `decay_steps`.
    name : str, optional
        An arbitrary name.

    Notes
    -----
    ``(initial_learning_rate - end_learning_rate) * (1 - t / T)**power + end_learning_rate``, where
    ``T`` is `decay_steps` and ``t`` is capped at it; with `cycle`, ``T`` is the first multiple of
    `decay_steps` that is at least ``t``.

    Examples
    --------
    >>> import arrayoptim as ao
    >>> ao.schedules.PolynomialDecay(0.5, decay_steps=100, end_learning_rate=0.25)(50)
    0.375
    """

    initial_learning_rate: Any = number("Value of the first step.")
    decay_steps: Any = number("Steps until the end.", POSITIVE)
    end_learning_rate: Any = number("Value at the end.", default=0.0001)
    power: Any = number("The power.", COUNT, default=1.0)
    cycle: bool = flag("Whether to start again.", default=False)

    def value(self, t: Scalar, xp: Namespace) -> Scalar:
        """Compute the value at a step."""
        period = self.decay_steps
        if self.cycle:
            period = period * xp.maximum(xp.ceil(t / period), 1.0)
        # A base that rounding made negative would have no fractional powers.
        left = xp.maximum(1.0 - xp.minimum(t, period) / period, 0.0)
        span = self.initial_learning_rate - self.end_learning_rate
        return span * left**self.power + self.end_learning_rate


@register
class CosineDecay(Schedule):
    """Decay along half a cosine, after an optional linear warm-up.

    Parameters
    ----------
    initial_learning_rate : float
        Value of the first step.
    decay_steps : float in (0, inf)
        Steps of the decay, without the warm-up.
    alpha : float in [0, 1]
        The final value, as a fraction of the highest one.
    name : str, optional
        An arbitrary name.
    warmup_target : float, optional
        Value at the end of the warm-up, where the decay starts; None for no warm-up.
    warmup_steps : int in [0, inf)
        Steps of the warm-up.

    Notes
    -----
    With ``t`` counted from the end of the warm-up and capped at ``T = decay_steps``, and ``h`` the
    value there: ``h * ((1 - alpha) * (1 + cos(pi * t / T)) / 2 + alpha)``.

    References
    ----------
    Loshchilov and Hutter (2017), SGDR: Stochastic Gradient Descent with Warm Restarts, equation 5.

    Examples
    --------
    >>> import arrayoptim as ao
    >>> rate = ao.schedules.CosineDecay(0.0, 100, warmup_target=0.5, warmup_steps=10)
    >>> rate(5), rate(10), round(rate(60), 12), rate(110)
    (0.25, 0.5, 0.25, 0.0)
    """

    initial_learning_rate: Any = number("Value of the first step.")
    decay_steps: Any = number("Steps of the decay.", POSITIVE)
    alpha: Any = number("Share left at the end.", "[0, 1]", default=0.0)
    warmup_target: Any = number("Value after the warm-up.", default=None)
    warmup_steps: Any = number("Steps of the warm-up.", COUNT, default=0, integer=True)

    def value(self, t: Scalar, xp: Namespace) -> Scalar:
        """Compute the value at a step."""
        start, target, warm = self.initial_learning_rate, self.warmup_target, self.warmup_steps
        if target is None:
            return start * self._left(t, xp)
        rise = (target - start) * (t / max(warm, 1)) + start
        fall = target * self._left(greater(t - warm, 0.0, xp), xp)
        return either(t < warm, rise, fall, xp)

    def _left(self, t: Scalar, xp: Namespace) -> Scalar:
        steps, alpha = self.decay_steps, self.alpha
        wave = half_cosine(lesser(t, steps, xp) / steps, xp)
        return (1.0 - alpha) * wave + alpha


@register
class CosineDecayRestarts(Schedule):
    """Decay along half a cosine repeatedly.

    Parameters
    ----------
    initial_learning_rate : float
        Value of the first step.
    first_decay_steps : float in (0, inf)
        Steps of the first period.
    t_mul : float in [1, inf)
        Ratio of the lengths of successive periods.
    m_mul : float in [0, inf)
        Ratio of the initial values of successive periods.
    alpha : float in [0, 1]
        Value at the end of a period, as a fraction of `initial_learning_rate`.
    name : str, optional
        An arbitrary name.

    Notes
    -----
    In period ``i``, counted from 0, of which the fraction ``x`` has passed:
    ``initial_learning_rate * ((1 - alpha) * m_mul**i * (1 + cos(pi * x)) / 2 + alpha)``.
    Keras computes ``i`` with a logarithm, which may round down to the previous period at the very
    step of a restart; here the step is compared with the sum of the periods.

    References
    ----------
    Loshchilov and Hutter (2017), SGDR: Stochastic Gradient Descent with Warm Restarts, equation 5.

    Examples
    --------
    >>> import arrayoptim as ao
    >>> rate = ao.schedules.CosineDecayRestarts(0.5, first_decay_steps=100)
    >>> round(rate(99), 4), rate(100), rate(300)
    (0.0001, 0.5, 0.5)
    """

    initial_learning_rate: Any = number("Value of the first step.")
    first_decay_steps: Any = number("Steps of the first fall.", POSITIVE)
    t_mul: Any = number("Factor of the length.", "[1, inf)", default=2.0)
    m_mul: Any = number("Factor of the height.", COUNT, default=1.0)
    alpha: Any = number("Share left at the end.", "[0, 1]", default=0.0)

    def value(self, t: Scalar, xp: Namespace) -> Scalar:
        """Compute the value at a step."""
        done = t / self.first_decay_steps
        if self.t_mul == 1.0:
            i = xp.floor(done)
            x = done - i
        else:
            i = self._fall(done, xp)
            x = (done - self._before(i)) / self.t_mul**i
        high = self.m_mul**i * half_cosine(x, xp)
        return self.initial_learning_rate * ((1.0 - self.alpha) * high + self.alpha)

    def _before(self, i: Scalar) -> Scalar:
        """Return the total length of the first `i` periods, in units of the first."""
        return (self.t_mul**i - 1.0) / (self.t_mul - 1.0)

    def _fall(self, done: Scalar, xp: Namespace) -> Scalar:
        grown = xp.log1p(done * (self.t_mul - 1.0)) / math.log(self.t_mul)
        near = xp.floor(grown + 0.5)
        return xp.where(done >= self._before(near), near, near - 1.0)


def half_cosine(x: Scalar, xp: Namespace) -> Scalar:
    """Return a value that falls from 1 to 0 along half a cosine as `x` goes from 0 to 1."""
    return 0.5 * (1.0 + xp.cos(math.pi * x))


def _periods(t: Scalar, schedule: Any, xp: Namespace) -> Scalar:
    p = t / schedule.decay_steps
    return xp.floor(p) if schedule.staircase else p
