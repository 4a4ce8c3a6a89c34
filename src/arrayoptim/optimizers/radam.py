"""RAdam."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import bias_correction, hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number
from ..optimizer import Optimizer
from ..rules.rule import rule


@rule(slots=("momentum", "velocity"))
def radam(p, g, m, v, lr, b1, c1, b2, c2, part, rest, xp):
    m = b1 * m + c1 * g
    v = b2 * v + c2 * (g * g)
    return p - lr * (m / (part * xp.sqrt(v) + rest)), m, v


@register
class RAdam(Optimizer):
    """Adam with a built-in warm-up, which rectifies the variance of its early steps.

    For training without a learning rate warm-up. 8 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon : float in [0, inf)
        Added to the root, after the bias correction.
    threshold : float in [4, inf)
        Number of terms that the mean of squares must have before it is used.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``velocity`` (shape of the parameter); ``t`` counts steps from 1::

        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        limit = 2 / (1 - b2) - 1
        n = limit - 2 * t * b2**t / (1 - b2**t)
        r = sqrt((n - 4) * (n - 2) * limit / ((limit - 4) * (limit - 2) * n))
        u = m / (1 - b1**t)
        p = p - lr * r * u / (sqrt(v / (1 - b2**t)) + eps)    # where n > threshold
        p = p - lr * u                                        # before

    The rule has one form for both: its denominator is ``part * sqrt(v) + rest``, with ``rest`` 1
    and ``part`` 0 at first. During that time the step has the units of the gradient, so a bound by
    `clipnorm` may be wise. The paper's threshold is 4; that of its authors' code, torch and optax
    is 5. torch adds epsilon to the root before the bias correction: its ``eps`` is ``epsilon *
    sqrt(1 - b2**t)`` of this one.

    With ``preset="torch"`` the denominator is ``(sqrt(v) + eps) / sqrt(1 - b2**t)``, and with
    ``"paper"`` the threshold is 4, regardless of `threshold`.

    References
    ----------
    Liu, Jiang, He, Chen, Liu, Gao, Han (2020), On the Variance of the Adaptive Learning Rate and
    Beyond, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.RAdam(lr=0.1).apply(np.array([3.0, -4.0]), w)
    array([ 0.7, -1.6])
    """

    presets = forms("optax", paper="paper", torch="torch")

    lr: Number = hyper(default=0.001, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(
        default=0.9, interval="[0, 1)", wider={"torch": "[0, inf)"}, doc="Decay rate of the mean."
    )
    beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    epsilon: Number = hyper(default=1e-08, interval="[0, inf)", doc="Added to the root.")
    threshold: Number = hyper(
        default=5.0, interval="[4, inf)", doc="Terms before the mean of squares is used."
    )

    rule = radam

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        t = it + 1
        k1, k2 = (bias_correction(beta, t, xp) for beta in (h.beta_1, h.beta_2))
        limit = 2.0 / (1.0 - h.beta_2) - 1.0
        n = limit - 2.0 * t * (1.0 - k2) / k2
        ready = n > (4.0 if self.form == "paper" else h.threshold)
        # Placeholders where not ready, so that no root of a negative number is taken.
        terms, most = xp.where(ready, n, 5.0), xp.where(ready, limit, 5.0)
        r = xp.sqrt((terms - 4) * (terms - 2) * most / ((most - 4) * (most - 2) * terms))
        eps = h.epsilon / xp.sqrt(k2) if self.form == "torch" else h.epsilon
        return {
            "lr": h.lr * r / k1,
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "b2": h.beta_2,
            "c2": 1.0 - h.beta_2,
            "part": xp.where(ready, 1.0 / xp.sqrt(k2), 0.0),
            "rest": xp.where(ready, eps, 1.0),
        }
