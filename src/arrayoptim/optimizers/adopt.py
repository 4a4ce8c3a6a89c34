"""ADOPT."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import either, hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number
from ..optimizer import Optimizer
from ..rules.rule import rule


@rule(slots=("momentum", "velocity"))
def adopt(p, g, m, v, lr, b1, c1, b2, c2, eps, limit, xp):
    n = g / xp.maximum(xp.sqrt(v), eps)
    m = b1 * m + c1 * xp.minimum(xp.maximum(n, -limit), limit)
    v = b2 * v + c2 * (g * g)
    return p - lr * m, m, v


@register
class ADOPT(Optimizer):
    """Average gradients, each normalised by the root mean square of the previous ones.

    Converges for every `beta_2`, unlike Adam. 8 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean of normalised gradients, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon : float in (0, inf)
        Lower bound on the denominator, in units of the gradient.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``velocity`` (shape of the parameter); ``t`` counts steps from 0, and the
    first step only initializes ``v`` to ``g**2``::

        n = clip(g / max(sqrt(v), eps), -t**0.25, t**0.25)
        m = b1 * m + (1 - b1) * n
        v = b2 * v + (1 - b2) * g**2
        p = p - lr * m

    As in the authors' code and optax. `weight_decay` shrinks parameters in the first step too,
    unlike in the authors' code.

    References
    ----------
    Taniguchi, Harada, Minegishi, Oshima, Jeong, Nagahara, Iiyama, Suzuki, Iwasawa, Matsuo (2024),
    ADOPT: Modified Adam Can Converge with Any beta_2 with the Optimal Rate, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> optimizer, w = ao.ADOPT(lr=0.1), np.array([1.0, -2.0])
    >>> optimizer.apply(np.array([3.0, -4.0]), w)
    array([ 1., -2.])
    >>> optimizer.apply(np.array([3.0, -4.0]), w)
    array([ 0.99, -1.99])
    """

    presets = forms("optax paper")

    lr: Number = hyper(default=0.001, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(default=0.9, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: Number = hyper(
        default=0.9999, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    epsilon: Number = hyper(default=1e-06, interval="(0, inf)", doc="The least divisor.")

    rule = adopt

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        return {
            "lr": h.lr,
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "b2": h.beta_2,
            "c2": either(it > 0, 1.0 - h.beta_2, 1.0, xp),
            "eps": h.epsilon,
            # 0 in the first step, which therefore moves nothing.
            "limit": it**0.25,
        }
