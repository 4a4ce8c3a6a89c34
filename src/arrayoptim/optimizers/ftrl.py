"""FTRL-Proximal."""

from __future__ import annotations

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


@rule(slots=("accumulator", "linear"))
def ftrl(p, g, n, z, lr, rate, l1, q2, shrink, tiny, zero, xp):
    s = n + g * g
    y = z + (g + shrink * p - (xp.sqrt(s) - xp.sqrt(n)) * rate * p)
    q = (xp.minimum(xp.maximum(y, -l1), l1) - y) / xp.maximum(xp.sqrt(s) * rate + q2, tiny)
    return xp.where(lr > zero, q, p), xp.where(lr > zero, s, n), xp.where(lr > zero, y, z)


@rule(slots=("accumulator", "linear"), kind="matrix")
def ftrl_of_a_power(p, g, n, z, lr, rate, l1, q2, shrink, tiny, k, zero, xp):
    s = n + g * g
    y = z + (g + shrink * p - (s**k - n**k) * rate * p)
    q = (xp.minimum(xp.maximum(y, -l1), l1) - y) / xp.maximum(s**k * rate + q2, tiny)
    return xp.where(lr > zero, q, p), xp.where(lr > zero, s, n), xp.where(lr > zero, y, z)


@register
class Ftrl(Optimizer):
    """Follow the regularized leader: the sparse parameters that best fit all gradients so far.

    For linear models with very many sparse features; L1 sets small weights to exactly 0. 8 bytes
    of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter; at 0 parameters and state do not change.
        ``learning_rate`` is
        accepted.
    learning_rate_power : float in (-inf, 0]
        Power of the accumulator in the step size; -0.5 in the paper. Any other value uses the array
        engine, as fused loops have roots but no powers. Fixed once a step is compiled.
    initial_accumulator_value : float in [0, inf)
        Initial value of the accumulator, in units of the squared gradient. With 0 an entry is 0
        until its first gradient that is not.
    l1_regularization_strength, l2_regularization_strength : float in [0, inf) or schedule
        L1 and L2 penalties on the parameter, the latter on its square.
    l2_shrinkage_regularization_strength : float in [0, inf) or schedule
        Half of the fraction of the parameter that is added to the gradient, but not to its square.
    beta : float in [0, inf) or schedule
        The paper's beta, added to the root in units of the gradient.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``accumulator``, initially `initial_accumulator_value`, and ``linear``, initially zero
    (each of the parameter's shape)::

        z = z + g + 2 * shrinkage * p - (sqrt(n + g**2) - sqrt(n)) / lr * p
        n = n + g**2
        p = (clip(z, -l1, l1) - z) / ((beta + sqrt(n)) / lr + 2 * l2)

    as in Keras 3, with another power of ``n`` instead of the root if `learning_rate_power` is not
    -0.5. The paper does not double the penalties. The new parameter follows from the slots alone:
    the method starts at 0, and from any other start its first step keeps only the fraction ``1 -
    sqrt(initial_accumulator_value / n)``, or nothing for a zero gradient.

    With ``preset="paper"`` ``l2`` is not doubled.

    References
    ----------
    McMahan et al. (2013), Ad Click Prediction: a View from the Trenches, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w, optimizer = np.zeros(2), ao.Ftrl(lr=0.1, l1_regularization_strength=1.0)
    >>> optimizer.apply(np.array([3.0, 0.5]), w).round(4)
    array([-0.0663,  0.    ])
    """

    presets = forms("keras3", paper="paper")

    rests = False

    lr: Number = hyper(default=0.001, interval="[0, inf)", firm=True, doc="Step size.")
    learning_rate_power: Number = hyper(
        default=-0.5,
        interval="(-inf, 0]",
        static=True,
        doc="Power of the accumulator in the step size.",
    )
    initial_accumulator_value: Number = hyper(
        default=0.1, interval="[0, inf)", doc="Initial value of the accumulator."
    )
    l1_regularization_strength: Number = hyper(
        default=0.0, interval="[0, inf)", doc="Penalty on the size of the parameter."
    )
    l2_regularization_strength: Number = hyper(
        default=0.0, interval="[0, inf)", doc="Penalty on the square of the parameter."
    )
    l2_shrinkage_regularization_strength: Number = hyper(
        default=0.0, interval="[0, inf)", doc="Penalty on the square, not in the accumulator."
    )
    beta: Number = hyper(default=0.0, interval="[0, inf)", firm=True, doc="Added to the root.")

    @property
    def rule(self) -> Rule:
        """The update rule."""
        return ftrl if self.learning_rate_power == -0.5 else ftrl_of_a_power

    def initial_slots(self) -> dict[str, Start]:
        """Return the initial accumulator."""
        return {"accumulator": self.initial_accumulator_value}

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        times = 1.0 if self.form == "paper" else 2.0
        lr = xp.maximum(h.lr, TINY)
        return {
            "lr": h.lr,
            "rate": 1.0 / lr,
            "zero": 0.0,
            "tiny": TINY,
            "l1": h.l1_regularization_strength,
            "q2": times * h.l2_regularization_strength + h.beta / lr,
            "shrink": 2.0 * h.l2_shrinkage_regularization_strength,
            "k": -self.learning_rate_power,
        }
