"""Adadelta."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number
from ..optimizer import Optimizer
from ..rules.rule import rule


@rule(slots=("accumulated_grad", "accumulated_delta_var"))
def adadelta(p, g, a, d, lr, rho, c, eps, xp):
    a = rho * a + c * (g * g)
    u = g * xp.sqrt(d + eps) / xp.sqrt(a + eps)
    return p - lr * u, a, rho * d + c * (u * u)


@register
class Adadelta(Optimizer):
    """Scale each step by the root mean square of the steps before it.

    For problems without a known learning rate: the step takes its units from earlier steps. It
    starts slowly. 8 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Factor of the step; 1 in the paper. ``learning_rate`` is accepted.
    rho : float in [0, 1) or schedule
        Decay rate of both running means of squares, per step.
    epsilon : float in [0, inf)
        Added inside both roots; it makes the first step possible.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    **options
        What every optimizer takes by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``accumulated_grad`` and ``accumulated_delta_var`` (shape of the parameter)::

        a = rho * a + (1 - rho) * g**2
        u = g * sqrt(d + eps) / sqrt(a + eps)
        p = p - lr * u
        d = rho * d + (1 - rho) * u**2

    References
    ----------
    Zeiler (2012), ADADELTA: An Adaptive Learning Rate Method, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.Adadelta().apply(np.array([3.0, -4.0]), w).round(6)
    array([ 0.999553, -1.999553])
    """

    presets = forms("keras2 keras3 optax paper torch")

    lr: Number = hyper(
        default=1.0, elsewhere={"keras3": 0.001}, interval="[0, inf)", doc="Factor of the step."
    )
    rho: Number = hyper(
        default=0.95,
        elsewhere={"optax": 0.9, "torch": 0.9},
        interval="[0, 1)",
        wider={"keras3": "[0, 1]", "optax": "[0, 1]", "torch": "[0, 1]"},
        doc="Decay rate of the means of squares.",
    )
    epsilon: Number = hyper(
        default=1e-08,
        elsewhere={"keras3": 1e-7, "optax": 1e-6, "torch": 1e-6},
        interval="[0, inf)",
        doc="Added inside both roots.",
    )
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")

    rule = adadelta

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        return {"lr": h.lr, "rho": h.rho, "c": 1.0 - h.rho, "eps": h.epsilon}
