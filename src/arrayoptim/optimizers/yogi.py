"""Yogi."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import bias_correction, hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number
from ..numerics.slots import Start
from ..optimizer import Optimizer
from ..rules.rule import rule


@rule(slots=("momentum", "velocity"))
def yogi(p, g, m, v, lr, b1, c1, c2, eps, xp):
    m = b1 * m + c1 * g
    s = g * g
    # Never negative as it is; abs declares that for unsigned 8-bit storage.
    v = xp.abs(v - c2 * (xp.sign(v - s) * s))
    return p - lr * (m / (xp.sqrt(v) + eps)), m, v


@register
class Yogi(Optimizer):
    """Adam whose second moment changes additively, by a fraction of the new square.

    The second moment falls as slowly as it rises, so rare large gradients are not forgotten at
    once. 8 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    beta_2 : float in [0, 1) or schedule
        One minus the weight of the new square, per step.
    epsilon : float in [0, inf)
        Added to the root, after the bias correction.
    initial_accumulator_value : float in [0, inf)
        Initial value of the mean of squares, in units of the squared gradient.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``velocity`` (shape of the parameter), the latter initially
    `initial_accumulator_value`; ``t`` counts steps from 1::

        m = b1 * m + (1 - b1) * g
        v = v - (1 - b2) * sign(v - g**2) * g**2
        p = p - lr * m / (1 - b1**t) / (sqrt(v / (1 - b2**t)) + eps)

    The paper's algorithm omits the bias corrections, which optax adds as here. optax also
    initializes ``m`` with `initial_accumulator_value`.

    With ``preset="paper"`` there are no bias corrections; with ``"optax"`` ``m`` is also
    initialized with `initial_accumulator_value`.

    References
    ----------
    Zaheer, Reddi, Sachan, Kale, Kumar (2018), Adaptive Methods for Nonconvex Optimization,
    algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.Yogi(lr=0.1).apply(np.array([3.0, -4.0]), w).round(4)
    array([ 0.9, -1.9])
    """

    presets = forms(optax="optax", paper="paper")

    lr: Number = hyper(default=0.01, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="One minus the weight of the new square."
    )
    epsilon: Number = hyper(default=1e-3, interval="[0, inf)", doc="Added to the root.")
    initial_accumulator_value: Number = hyper(
        default=1e-6, interval="[0, inf)", doc="Initial value of the mean of squares."
    )

    rule = yogi

    @property
    def rests(self) -> bool:
        """Whether the mean starts at zero, as it does without optax's formula."""
        return self.form != "optax"

    def initial_slots(self) -> dict[str, Start]:
        """Return the initial mean of squares."""
        value: Start = self.initial_accumulator_value
        return {"velocity": value} | ({"momentum": value} if self.form == "optax" else {})

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        k1, k2 = (bias_correction(beta, it + 1, xp) for beta in (h.beta_1, h.beta_2))
        if self.form == "paper":
            k1 = k2 = 1.0
        return {
            "lr": h.lr * xp.sqrt(k2) / k1,
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "c2": 1.0 - h.beta_2,
            "eps": h.epsilon * xp.sqrt(k2),
        }
