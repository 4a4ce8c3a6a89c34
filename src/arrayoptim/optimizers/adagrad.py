"""Adagrad."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number
from ..numerics.slots import Start
from ..optimizer import Optimizer
from ..rules.rule import Rule, rule


@rule(slots=("accumulator",))
def adagrad(p, g, a, lr, eps, xp):
    a = a + g * g
    return p - lr * g / (xp.sqrt(a) + eps), a


@rule(slots=("accumulator",))
def adagrad_inside(p, g, a, lr, eps, xp):
    a = a + g * g
    return p - lr * g / xp.sqrt(a + eps), a


@rule(slots=("accumulator",))
def adagrad_guarded(p, g, a, lr, eps, zero, one, xp):
    a = a + g * g
    root = xp.where(a > zero, xp.sqrt(a + eps), one)
    return p - xp.where(a > zero, lr * g, zero) / root, a


_RULES = {"": adagrad, "inside": adagrad_inside, "guarded": adagrad_guarded}


@register
class Adagrad(Optimizer):
    """Divide the gradient by the root of the sum of its squares so far.

    For sparse features, each of which has its own step size. Steps keep shrinking. 4 bytes of state
    per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Size of the first step, in units of the parameter. ``learning_rate`` is accepted.
    epsilon : float in [0, inf)
        Added to the root.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    initial_accumulator_value : float in [0, inf)
        Initial value of the accumulator, in units of the squared gradient.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slot ``accumulator`` (shape of the parameter), initially `initial_accumulator_value`, whose
    default in Keras 3 is 0.1::

        a = a + g**2
        p = p - lr * g / (sqrt(a) + eps)

    Epsilon is added outside the root as in Keras 2 and torch; Keras 3 adds it inside.

    With ``preset="keras3"`` or ``"optax"`` epsilon is inside the root; with ``"optax"`` there is no
    step where ``a`` is 0.

    References
    ----------
    Duchi, Hazan, Singer (2011), Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization, figure 1, with diagonal matrices.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.Adagrad(lr=0.1).apply(np.array([3.0, -4.0]), w).round(4)
    array([ 0.9, -1.9])
    """

    presets = forms("keras2 paper torch", inside="keras3", guarded="optax")

    lr: Number = hyper(
        default=0.01,
        elsewhere={"keras3": 0.001},
        interval="[0, inf)",
        doc="Size of the first step.",
    )
    epsilon: Number = hyper(
        default=1e-08,
        elsewhere={"keras3": 1e-7, "optax": 1e-7, "torch": 1e-10},
        interval="[0, inf)",
        doc="Added to the root.",
    )
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")
    initial_accumulator_value: Number = hyper(
        default=0.0,
        elsewhere={"keras3": 0.1, "optax": 0.1},
        interval="[0, inf)",
        kw_only=True,
        doc="Initial value of the accumulator.",
    )

    @property
    def rule(self) -> Rule:
        """The update rule."""
        return _RULES[self.form]

    def initial_slots(self) -> dict[str, Start]:
        """Return the initial accumulator."""
        return {"accumulator": self.initial_accumulator_value}

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        return {"lr": h.lr, "eps": h.epsilon, "zero": 0.0, "one": 1.0}
