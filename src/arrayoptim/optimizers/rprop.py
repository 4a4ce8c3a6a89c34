"""Rprop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np

from .._typing import Namespace, Scalar
from ..config.hyper import hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number
from ..numerics.slots import Start
from ..optimizer import Optimizer
from ..rules.rule import Rule, rule

TINY = float(np.finfo(np.float32).tiny)


@rule(slots=("previous_grad", "step_size"))
def rprop(p, g, e, s, lr, down, up, low, high, zero, xp):
    agree = xp.sign(g) * xp.sign(e)
    s = xp.where(agree > zero, s * up, xp.where(agree < zero, s * down, s))
    s = xp.minimum(xp.maximum(s, low), high)
    g = xp.where(agree < zero, zero, g)
    return p - lr * s * xp.sign(g), g, s


@rule(slots=("previous_grad", "step_length"))
def rprop_length(p, g, e, s, lr, down, up, least, most, zero, xp):
    s = xp.where(s > zero, s, lr)
    agree = g * e
    s = xp.where(agree > zero, s * up, xp.where(agree < zero, s * down, s))
    s = xp.minimum(xp.maximum(s, least), most)
    g = xp.where(agree < zero, zero, g)
    return p - s * xp.sign(g), g, s


@rule(slots=("previous_step", "step_length"))
def rprop_step(p, g, e, s, lr, down, up, least, most, zero, xp):
    s = xp.where(s > zero, s, lr)
    agree = g * e
    grown = xp.minimum(xp.maximum(s * up, least), most)
    shrunk = xp.minimum(xp.maximum(s * down, least), most)
    s = xp.where(agree > zero, grown, xp.where(agree < zero, shrunk, s))
    move = xp.where(agree < zero, zero, e)
    return p - move, xp.where(agree < zero, zero, s * xp.sign(g)), s


_RULES = {"": rprop, "torch": rprop_length, "optax": rprop_step}


@register
class Rprop(Optimizer):
    """Step by the sign of the gradient, with step sizes per entry that grow while the sign holds.

    For full-batch gradients with misleading magnitudes: noisy signs, as in mini-batches, make the
    steps shrink. 8 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Size of the first step, in units of the parameter. ``learning_rate`` is accepted.
    eta_minus : float in (0, 1) or schedule
        Factor of a step size when the sign has changed.
    eta_plus : float in (1, inf) or schedule
        Factor of a step size when the sign has not changed.
    step_min, step_max : float in [0, inf) and (0, inf) or schedule
        Bounds of the step sizes, in units of the parameter.
    **options
        Options of every optimizer, by keyword, such as `clipvalue`: see `Optimizer`.

    Notes
    -----
    Slots ``previous_grad``, initially zero, and ``step_size``, in units of ``lr``, initially one
    (each of the parameter's shape)::

        s = s * eta_plus        where g and e have the same sign
        s = s * eta_minus       where they have opposite signs, and g = 0
        s = min(max(s, step_min / lr), step_max / lr)
        p = p - lr * s * sign(g)
        e = g

    This is the variant without weight backtracking, as in torch: after a change of sign, the entry
    pauses for one step. torch compares signs by the product of the gradients, which underflows for
    very small ones, and keeps absolute step sizes: there a change of ``lr`` has no effect after the
    first step, here it scales all step sizes.

    With ``preset="torch"`` the slot ``step_length`` holds step sizes in units of the parameter, and
    signs are compared by the product of the gradients. With ``"optax"`` that product is of the
    gradient and the slot ``previous_step``; a parameter moves by the step of the previous gradient,
    and a step size without a sign to compare is not bounded.

    References
    ----------
    Riedmiller and Braun (1993), A Direct Adaptive Method for Faster Backpropagation Learning: The
    RPROP Algorithm, equations 4 and 5; Igel and Huesken (2000), Improving the Rprop Learning
    Algorithm, iRprop-, for the gradient that is set to 0.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> optimizer = ao.Rprop(lr=0.1)
    >>> for g in ([3.0, -4.0], [0.1, 4.0], [0.1, 4.0]):
    ...     w = optimizer.apply(np.array(g), w)
    >>> w.round(4)
    array([ 0.636, -1.95 ])
    """

    presets = forms(optax="optax", torch="torch")

    lr: Number = hyper(default=0.01, interval="[0, inf)", doc="Size of the first step.")
    eta_minus: Number = hyper(
        default=0.5,
        interval="(0, 1)",
        wider={"optax": "(0, 1]"},
        doc="Factor where the sign changed.",
    )
    eta_plus: Number = hyper(
        default=1.2, interval="(1, inf)", wider={"optax": "[1, inf)"}, doc="Factor where it stayed."
    )
    step_min: Number = hyper(default=1e-06, interval="[0, inf)", doc="Smallest size of a step.")
    step_max: Number = hyper(
        default=50.0,
        interval="(0, inf)",
        wider={"torch": "(0, inf]"},
        doc="Largest size of a step.",
    )

    @property
    def rule(self) -> Rule:
        """The update rule."""
        return _RULES[self.form]

    def initial_slots(self) -> dict[str, Start]:
        """Return the sizes in units of ``lr`` before the first step."""
        # A length of 0 means not yet initialized, so that groups start with their own lr.
        return {} if self.form else {"step_size": 1.0}

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        # With lr=0 no step moves the parameter, and no size is out of bounds.
        moves, lr = h.lr > 0.0, xp.maximum(h.lr, TINY)
        return {
            "lr": h.lr,
            "down": h.eta_minus,
            "up": h.eta_plus,
            "low": xp.where(moves, h.step_min / lr, 0.0),
            "high": xp.where(moves, h.step_max / lr, math.inf),
            "least": h.step_min,
            "most": h.step_max,
            "zero": 0.0,
        }
