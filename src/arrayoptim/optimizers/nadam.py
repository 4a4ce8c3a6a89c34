"""Nadam."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import bias_correction, hyper, in_float32
from ..config.presets import forms
from ..config.registry import register
from ..config.scheduled import keeps_numbers
from ..config.typed import Number
from ..optimizer import Optimizer
from ..rules.rule import rule


@rule(slots=("momentum", "velocity"))
def nadam(p, g, m, v, lr, b1, c1, b2, c2, kg, km, k2, eps, xp):
    m = b1 * m + c1 * g
    v = b2 * v + c2 * (g * g)
    return p - lr * (kg * g + km * m) / (xp.sqrt(v / k2) + eps), m, v


@register
class Nadam(Optimizer):
    """Adam with Nesterov's look-ahead and a momentum warm-up.

    Often a little faster than Adam in the first epochs. 8 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step, once warmed up.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon : float in [0, inf)
        Added to the root.
    schedule_decay : float in [0, inf)
        Rate of the warm-up, per step.
    scalar_dtype : {"float32", "float64"}, optional
        Dtype to which the product of the momenta is rounded; float64 if None.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``velocity`` (shape of the parameter), and the scalar ``m_schedule``,
    the product ``P`` of all ``mu`` so far; ``t`` counts steps from 1::

        mu(t) = b1 * (1 - 0.5 * 0.96**(t * schedule_decay))
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        d = (1 - mu(t)) * g / (1 - P(t)) + mu(t + 1) * m / (1 - P(t + 1))
        p = p - lr * d / (sqrt(v / (1 - b2**t)) + eps)

    As in Keras 2. Keras 3 uses ``schedule_decay=1``; torch's ``momentum_decay`` is
    this rate.

    ``scalar_dtype="float32"`` rounds ``P`` as torch does unless its default dtype is float64.

    With ``preset="keras3"`` the momentum warms up at a rate of 1, and with ``"optax"`` not at all,
    regardless of `schedule_decay`.

    References
    ----------
    Dozat (2016), Incorporating Nesterov Momentum into Adam, algorithm 8, with the warm-up of
    Sutskever et al. (2013).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.Nadam(lr=0.1).apply(np.array([3.0, -4.0]), w).round(4)
    array([ 0.8944, -1.8944])
    """

    presets = forms("keras2 paper torch", keras3="keras3", optax="optax")

    lr: Number = hyper(
        default=0.002, elsewhere={"keras3": 0.001}, interval="[0, inf)", doc="Step size."
    )
    beta_1: Number = hyper(
        default=0.9, interval="[0, 1)", wider={"torch": "[0, inf)"}, doc="Decay rate of the mean."
    )
    beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    epsilon: Number = hyper(
        default=1e-08, elsewhere={"keras3": 1e-7}, interval="[0, inf)", doc="Added to the root."
    )
    schedule_decay: Number = hyper(default=0.004, interval="[0, inf)", doc="Rate of the warm-up.")
    scalar_dtype: str | None = hyper(
        default=None,
        choices=("float32", "float64"),
        kw_only=True,
        doc="Dtype to which the product of the momenta is rounded.",
    )

    rule = nadam

    def initial_scalars(self) -> dict[str, float]:
        """Return the empty product."""
        return {"m_schedule": 1.0}

    def scalars_after(self, iterations: int) -> dict[str, float]:
        """Return the product of the momenta after a number of steps."""
        beta, product = self._hyper["beta_1"], 1.0
        if keeps_numbers(beta):
            return {}
        rate = self._hyper["schedule_decay"]
        for it in range(iterations):
            momentum = beta(it) if callable(beta) else beta
            product *= self._momentum(momentum, rate(it) if callable(rate) else rate, it + 1)
            if product == 0.0:
                break
        return {"m_schedule": float(product)}

    def _momentum(self, beta_1: Scalar, schedule_decay: Scalar, t: Scalar) -> Scalar:
        """Return the momentum of the step numbered `t` from 1."""
        if self.form == "optax":
            return beta_1
        rate = 1.0 if self.form == "keras3" else schedule_decay
        return beta_1 * (1.0 - 0.5 * 0.96 ** (t * rate))

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        t = it + 1
        mu, after = (self._momentum(h.beta_1, h.schedule_decay, s) for s in (t, t + 1))
        # optax needs no product: its momenta are constant, so it is a power.
        before = h.beta_1**it if self.form == "optax" else scalars["m_schedule"]
        product = before * mu
        if self.scalar_dtype == "float32":
            product = in_float32(before * in_float32(mu, xp), xp)
        return {
            "lr": h.lr,
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "b2": h.beta_2,
            "c2": 1.0 - h.beta_2,
            "kg": (1.0 - mu) / (1.0 - product),
            "km": after / (1.0 - product * after),
            "k2": bias_correction(h.beta_2, t, xp),
            "eps": h.epsilon,
            "m_schedule": product,
        }
