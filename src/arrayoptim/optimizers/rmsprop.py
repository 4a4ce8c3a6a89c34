"""RMSprop."""

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


@rule(slots=("velocity",))
def rmsprop(p, g, v, lr, rho, c, eps, xp):
    v = rho * v + c * (g * g)
    return p - lr * g / (xp.sqrt(v) + eps), v


@rule(slots=("velocity", "momentum"))
def rmsprop_momentum(p, g, v, m, lr, rho, c, eps, mu, xp):
    v = rho * v + c * (g * g)
    m = mu * m + lr * g / (xp.sqrt(v) + eps)
    return p - m, v, m


@rule(slots=("velocity", "average_gradient"))
def rmsprop_centered(p, g, v, a, lr, rho, c, eps, zero, xp):
    v = rho * v + c * (g * g)
    a = rho * a + c * g
    return p - lr * g / (xp.sqrt(xp.maximum(v - a * a, zero)) + eps), v, a


@rule(slots=("velocity", "momentum", "average_gradient"))
def rmsprop_centered_momentum(p, g, v, m, a, lr, rho, c, eps, mu, zero, xp):
    v = rho * v + c * (g * g)
    a = rho * a + c * g
    m = mu * m + lr * g / (xp.sqrt(xp.maximum(v - a * a, zero)) + eps)
    return p - m, v, m, a


@rule(slots=("velocity",))
def rmsprop_inside(p, g, v, lr, rho, c, eps, xp):
    v = rho * v + c * (g * g)
    return p - lr * g / xp.sqrt(v + eps), v


@rule(slots=("velocity", "momentum"))
def rmsprop_inside_momentum(p, g, v, m, lr, rho, c, eps, mu, xp):
    v = rho * v + c * (g * g)
    m = mu * m + lr * g / xp.sqrt(v + eps)
    return p - m, v, m


@rule(slots=("velocity", "average_gradient"))
def rmsprop_inside_centered(p, g, v, a, lr, rho, c, eps, zero, xp):
    v = rho * v + c * (g * g)
    a = rho * a + c * g
    return p - lr * g / xp.sqrt(xp.maximum(v - a * a, zero) + eps), v, a


@rule(slots=("velocity", "momentum", "average_gradient"))
def rmsprop_inside_centered_momentum(p, g, v, m, a, lr, rho, c, eps, mu, zero, xp):
    v = rho * v + c * (g * g)
    a = rho * a + c * g
    m = mu * m + lr * g / xp.sqrt(xp.maximum(v - a * a, zero) + eps)
    return p - m, v, m, a


@rule(slots=("velocity", "momentum_buffer"))
def rmsprop_buffer(p, g, v, m, lr, rho, c, eps, mu, xp):
    v = rho * v + c * (g * g)
    m = mu * m + g / (xp.sqrt(v) + eps)
    return p - lr * m, v, m


@rule(slots=("velocity", "momentum_buffer", "average_gradient"))
def rmsprop_buffer_centered(p, g, v, m, a, lr, rho, c, eps, mu, zero, xp):
    v = rho * v + c * (g * g)
    a = rho * a + c * g
    m = mu * m + g / (xp.sqrt(xp.maximum(v - a * a, zero)) + eps)
    return p - lr * m, v, m, a


# By form, then whether centered, then whether there is momentum.
_RULES = {
    "": {
        (False, False): rmsprop,
        (False, True): rmsprop_momentum,
        (True, False): rmsprop_centered,
        (True, True): rmsprop_centered_momentum,
    },
    "inside": {
        (False, False): rmsprop_inside,
        (False, True): rmsprop_inside_momentum,
        (True, False): rmsprop_inside_centered,
        (True, True): rmsprop_inside_centered_momentum,
    },
    "buffer": {
        (False, False): rmsprop,
        (False, True): rmsprop_buffer,
        (True, False): rmsprop_centered,
        (True, True): rmsprop_buffer_centered,
    },
}


@register
class RMSprop(Optimizer):
    """Divide the gradient by a running root mean square of itself.

    For recurrent networks and other losses whose gradients vary in scale. 4 bytes of state per
    float32 parameter; `centered` and `momentum` add 4 each.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    rho : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon : float in [0, inf)
        Added to the root.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    centered : bool
        Whether to divide by the root of the variance instead of the mean square.
    momentum : float in [0, 1) or schedule
        Fraction of the previous step that is added to the next.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``velocity``, ``momentum`` if `momentum` is not 0, and ``average_gradient`` if `centered`
    (each of the parameter's shape)::

        v = rho * v + (1 - rho) * g**2
        p = p - lr * g / (sqrt(v) + eps)

    Epsilon is added outside the root as in Keras 2 and torch; Keras 3 adds it inside. With
    `centered` the root is that of ``v - a**2``, or 0 if rounding makes that negative, with ``a =
    rho * a + (1 - rho) * g``.

    With ``preset="keras3"`` or ``"optax"`` epsilon is inside the root; with ``"torch"`` the
    momentum does not include the step size, and its slot is ``momentum_buffer``.

    References
    ----------
    Tieleman and Hinton (2012), Neural Networks for Machine Learning, lecture 6.5; Graves (2013),
    Generating Sequences With Recurrent Neural Networks, equations 38 to 45, for the centred form.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.RMSprop(lr=0.1).apply(np.array([3.0, -4.0]), w).round(4)
    array([ 0.6838, -1.6838])
    """

    presets = forms("keras2 paper", inside="keras3 optax", buffer="torch")

    lr: Number = hyper(
        default=0.001, elsewhere={"torch": 0.01}, interval="[0, inf)", doc="Step size."
    )
    rho: Number = hyper(
        default=0.9,
        elsewhere={"torch": 0.99},
        interval="[0, 1)",
        wider={"keras3": "[0, 1]", "optax": "[0, 1]", "torch": "[0, inf)"},
        doc="Decay rate of the mean of squares.",
    )
    epsilon: Number = hyper(
        default=1e-08, elsewhere={"keras3": 1e-7}, interval="[0, inf)", doc="Added to the root."
    )
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")
    centered: bool = hyper(
        default=False, kw_only=True, doc="Whether the variance replaces the mean square."
    )
    momentum: Number = hyper(
        default=0.0,
        interval="[0, 1]",
        wider={"keras3": "[0, inf)", "optax": "[0, inf)", "torch": "[0, inf)"},
        kw_only=True,
        doc="Fraction of the previous step kept.",
    )

    @property
    def rule(self) -> Rule:
        """The update rule."""
        momentum = self._hyper["momentum"]
        # Of a negative one Keras and torch take no notice.
        moves = momentum != 0 if self.preset == "optax" or callable(momentum) else momentum > 0
        return _RULES[self.form][self.centered, moves]

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        c = 1.0 - h.rho
        return {"lr": h.lr, "rho": h.rho, "c": c, "eps": h.epsilon, "mu": h.momentum, "zero": 0.0}
