"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._typing import Namespace, Scalar
from ..config.hyper import either, hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import MaybeNumber, MaybeWhole, Number
from ..optimizer import Optimizer
from ..rules.rule import Rule, rule
from ..schedules._warmup import ramp


@rule(slots=("momentum",))
def sgd(p, g, m, take, mu, xp):
    m = mu * m - take * g
    return p + m, m


@rule(slots=("momentum",))
def nesterov(p, g, m, lr, take, mu, xp):
    m = mu * m - take * g
    return p + (mu * m - lr * g), m


@rule(slots=("momentum_buffer",))
def sgd_buffer(p, g, m, lr, share, mu, xp):
    m = mu * m + share * g
    return p - lr * m, m


@rule(slots=("momentum_buffer",))
def nesterov_buffer(p, g, m, lr, share, mu, xp):
    m = mu * m + share * g
    return p - lr * (g + mu * m), m


@rule(slots=())
def descent(p, g, lr, xp):
    return (p - lr * g,)


_RULES = {
    ("", False): sgd,
    ("", True): nesterov,
    ("plain", False): sgd,
    ("plain", True): nesterov,
    ("buffer", False): sgd_buffer,
    ("buffer", True): nesterov_buffer,
}


@register
class SGD(Optimizer):
    """Stochastic gradient descent, with optional momentum.

    The first choice when gradients have little noise or memory is scarce: 4 bytes of state per
    float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of parameter per gradient. ``learning_rate`` is accepted.
    momentum : float in [0, 1] or schedule
        Fraction of the previous step that is added to the next; with a ramp, its goal.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    nesterov : bool
        Whether to look ahead along the momentum.
    schedule_decay : float in [0, inf), optional
        Rate of the momentum ramp, per step; 0.004 if only `mom_iter_max` is given.
    mom_iter_max : int in [0, inf), optional
        Steps until the ramp ends; 475000 if only `schedule_decay` is given.
    dampening : float in [0, 1] or schedule
        Fraction of a gradient that the momentum leaves out, from the second step on.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slot ``momentum`` (shape of the parameter)::

        m = mu * m - lr * g
        p = p + m                       # nesterov: p + mu * m - lr * g

    The slot exists with ``momentum=0`` too: Keras 2 then lists the last step, in its files and in
    ``get_weights``, and continues from it if momentum is set later. ``preset="keras3"`` computes
    the same without that slot.

    torch accumulates gradients and multiplies by ``lr`` when stepping, so a change of ``lr``
    affects the whole momentum at once; here it affects only future steps.

    The momentum ramp is that of natural_bm. A step uses the momentum left by the previous step, and
    the first one `momentum` itself; after the step numbered ``it`` from 0 it is, with ``s`` for
    `schedule_decay` and ``M`` for `mom_iter_max`, ``momentum * (1 - 0.5 * 0.96**(it * s)) * (1 -
    0.5 * 0.96**((M - it) * s))`` while ``it < M`` and ``momentum / 2`` from then on. The attribute
    ``ramped_momentum`` holds it.

    With ``preset="torch"`` or ``"optax"`` the slot is ``momentum_buffer``, without the step size::

        m = mu * m + (1 - dampening) * g
        p = p - lr * m                  # nesterov: p - lr * (g + mu * m)

    and there is no slot if `momentum` is the number 0. torch's default of ``lr`` is 0.001.

    References
    ----------
    Sutskever, Martens, Dahl, Hinton (2013), On the importance of initialization and momentum in
    deep learning, equations 1 to 4.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.SGD(lr=0.5).apply(np.array([1.0, 1.0]), w)
    array([ 0.5, -2.5])
    """

    presets = forms("keras2 paper", plain="keras3", buffer="optax torch")

    lr: Number = hyper(
        default=0.01, elsewhere={"torch": 0.001}, interval="[0, inf)", doc="Step size."
    )
    momentum: Number = hyper(
        default=0.0,
        interval="[0, 1]",
        wider={"optax": "[0, inf)", "torch": "[0, inf)"},
        doc="Fraction of the previous step kept.",
    )
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")
    nesterov: bool = hyper(default=False, doc="Whether to look ahead along the momentum.")
    schedule_decay: MaybeNumber = hyper(
        default=None, interval="[0, inf)", doc="Rate of the momentum ramp per step."
    )
    mom_iter_max: MaybeWhole = hyper(
        default=None, interval="[0, inf)", integer=True, doc="Steps until the ramp ends."
    )
    dampening: Number = hyper(
        default=0.0,
        interval="[0, 1]",
        wider={"torch": "(-inf, inf)"},
        kw_only=True,
        doc="Fraction of a gradient that the momentum leaves out, from the second step on.",
    )

    @property
    def momentum_goal(self) -> Any:
        """natural_bm's name for `momentum`."""
        return self.momentum

    @momentum_goal.setter
    def momentum_goal(self, value: Any) -> None:
        self.momentum = value

    @property
    def rule(self) -> Rule:
        """The update rule."""
        if self.form and self._hyper["momentum"] == 0 and not self.initial_scalars():
            return descent
        return _RULES[self.form, self.nesterov]

    def initial_scalars(self) -> dict[str, float]:
        """Return the ramp's momentum if there is a ramp."""
        ramp = self.schedule_decay is not None or self.mom_iter_max is not None
        return {"ramped_momentum": self.momentum} if ramp else {}

    def scalars_after(self, iterations: int) -> dict[str, float]:
        """Return the momentum left by the previous step, if there is a ramp."""
        goal = self._hyper["momentum"]
        if callable(goal) or not (iterations and self.initial_scalars()):
            return {}
        return {"ramped_momentum": float(goal * self._ramp(self, iterations - 1, np))}

    def _ramp(self, h: Any, it: Scalar, xp: Namespace) -> Scalar:
        rate = 0.004 if h.schedule_decay is None else h.schedule_decay
        last = 475000 if h.mom_iter_max is None else h.mom_iter_max
        return ramp(it, rate, last, xp)

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        share = either(it > 0, 1.0 - h.dampening, 1.0, xp)
        found = {"lr": h.lr, "mu": h.momentum, "share": share, "take": h.lr * share}
        if "ramped_momentum" not in scalars:
            return found
        return found | {
            "mu": scalars["ramped_momentum"],
            "ramped_momentum": h.momentum * self._ramp(h, it, xp),
        }
