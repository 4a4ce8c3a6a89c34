"""Signum."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number
from ..optimizer import Optimizer
from ..rules.rule import Rule, rule


@rule(slots=("momentum",))
def signum(p, g, m, lr, b, c, xp):
    m = b * m + c * g
    return p - lr * xp.sign(m), m


@rule(slots=())
def sign_descent(p, g, lr, xp):
    return (p - lr * xp.sign(g),)


@register
class Signum(Optimizer):
    """Step by the sign of a running mean of the gradient.

    Every entry moves by ``lr`` at each step, whatever the size of its gradient. 4 bytes of state
    per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    momentum : float in [0, 1) or schedule
        Decay rate of the running mean, per step; 0 for signSGD.
    **options
        Options of every optimizer, by keyword, such as `weight_decay`: see `Optimizer`.

    Notes
    -----
    Slot ``momentum`` (shape of the parameter), which exists with ``momentum=0`` too::

        m = momentum * m + (1 - momentum) * g
        p = p - lr * sign(m)

    With ``preset="optax"`` there is no slot if `momentum` is the number 0, as in optax's
    ``sign_sgd``.

    References
    ----------
    Bernstein, Wang, Azizzadenesheli, Anandkumar (2018), signSGD: Compressed Optimisation for
    Non-Convex Problems, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.Signum(lr=0.1).apply(np.array([3.0, -4.0]), w)
    array([ 0.9, -1.9])
    """

    presets = forms("paper", plain="optax")

    lr: Number = hyper(default=0.0001, interval="[0, inf)", doc="Step size.")
    momentum: Number = hyper(
        default=0.9, interval="[0, 1)", wider={"optax": "[0, 1]"}, doc="Decay rate of the mean."
    )

    @property
    def rule(self) -> Rule:
        """The update rule."""
        return sign_descent if self.form and self._hyper["momentum"] == 0 else signum

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        return {"lr": h.lr, "b": h.momentum, "c": 1.0 - h.momentum}
