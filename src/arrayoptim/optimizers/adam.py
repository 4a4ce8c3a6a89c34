"""Adam."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import bias_correction, hyper, square_root
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number
from ..optimizer import Optimizer
from ..rules.rule import Rule, rule


@rule(slots=("momentum", "velocity"))
def adam(p, g, m, v, lr, b1, c1, b2, c2, eps, xp):
    m = b1 * m + c1 * g
    v = b2 * v + c2 * (g * g)
    return p - lr * (m / (xp.sqrt(v) + eps)), m, v


@rule(slots=("momentum", "velocity", "velocity_hat"))
def amsgrad(p, g, m, v, h, lr, b1, c1, b2, c2, eps, xp):
    m = b1 * m + c1 * g
    v = b2 * v + c2 * (g * g)
    h = xp.maximum(h, v)
    return p - lr * (m / (xp.sqrt(h) + eps)), m, v, h


@rule(slots=("momentum", "velocity", "corrected_velocity_hat"))
def amsgrad_corrected(p, g, m, v, h, lr, b1, c1, b2, c2, k2, eps, xp):
    m = b1 * m + c1 * g
    v = b2 * v + c2 * (g * g)
    h = xp.maximum(h, v / k2)
    return p - lr * (m / (xp.sqrt(h) + eps)), m, v, h


def adam_numbers(
    lr: Scalar, beta_1: Scalar, beta_2: Scalar, epsilon: Scalar, it: Scalar, xp: Namespace
) -> tuple[dict[str, Scalar], Scalar]:
    """Return the coefficients of Adam's step, with both bias corrections in the step size.

    Parameters
    ----------
    lr : float in [0, inf)
        Step size.
    beta_1, beta_2 : float in [0, 1)
        Decay rates of the running means.
    epsilon : float in [0, inf)
        Added to the root.
    it : int
        Steps taken before this one.
    xp : module
        Array functions: `numpy` on the host, ``jax.numpy`` while a step is traced.

    Returns
    -------
    numbers : dict of str to scalar
        The coefficients, by their letters in the rule.
    k2 : scalar
        The bias correction of the mean of squares.
    """
    k1, k2 = bias_correction(beta_1, it + 1, xp), bias_correction(beta_2, it + 1, xp)
    numbers = {
        "lr": lr * square_root(k2, xp) / k1,
        "b1": beta_1,
        "c1": 1.0 - beta_1,
        "b2": beta_2,
        "c2": 1.0 - beta_2,
        "eps": epsilon,
    }
    return numbers, k2


@register
class Adam(Optimizer):
    """Step along the running mean of the gradient, divided by its running root mean square.

    The usual first choice. 8 bytes of state per float32 parameter, 12 with `amsgrad`.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    epsilon : float in [0, inf)
        Added to the root, before the bias correction: the paper's "epsilon hat".
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    amsgrad : bool
        Whether to use the maximum of all means of squares so far.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``velocity``, and ``velocity_hat`` with `amsgrad` (shape of the
    parameter); ``t`` counts steps from 1::

        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        p = p - lr * sqrt(1 - b2**t) / (1 - b1**t) * m / (sqrt(v) + eps)

    Both bias corrections are folded into the step size, as at the end of section 2 of the paper
    and in Keras. torch and optax correct ``v`` under the root, so their epsilon is
    ``eps / sqrt(1 - b2**t)`` of this one. With `amsgrad` the uncorrected ``v`` enters the maximum,
    as in Keras and unlike torch before 1.4.

    With a `preset` of ``"optax"``, ``"paper"`` or ``"torch"`` epsilon is added after the bias
    correction of ``v``: ``p - lr * m / (1 - b1**t) / (sqrt(v / (1 - b2**t)) + eps)``. With
    `amsgrad` and ``"optax"``, the corrected ``v`` enters the maximum, in the slot
    ``corrected_velocity_hat``; with `amsgrad` and ``"paper"``, there are no bias corrections.

    References
    ----------
    Kingma and Ba (2015), Adam: A Method for Stochastic Optimization, algorithm 1 and section 2;
    Reddi, Kale, Kumar (2018), On the Convergence of Adam and Beyond, algorithm 2, for `amsgrad`.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w = np.array([1.0, -2.0])
    >>> ao.Adam(lr=0.1).apply(np.array([3.0, -4.0]), w).round(4)
    array([ 0.9, -1.9])
    """

    presets = forms("keras2 keras3", optax="optax", paper="paper", torch="torch")

    lr: Number = hyper(default=0.001, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(
        default=0.9, interval="[0, 1)", wider={"torch": "[0, inf)"}, doc="Decay rate of the mean."
    )
    beta_2: Number = hyper(
        default=0.999, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    epsilon: Number = hyper(
        default=1e-08, elsewhere={"keras3": 1e-7}, interval="[0, inf)", doc="Added to the root."
    )
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")
    amsgrad: bool = hyper(
        default=False, kw_only=True, doc="Whether to use the maximum of the mean of squares."
    )

    @property
    def rule(self) -> Rule:
        """The update rule."""
        if not self.amsgrad:
            return adam
        return amsgrad_corrected if self.form == "optax" else amsgrad

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        found, k2 = adam_numbers(h.lr, h.beta_1, h.beta_2, h.epsilon, it, xp)
        found["k2"], form = k2, self.form
        if form == "optax" and self.amsgrad:
            found["lr"] = h.lr / bias_correction(h.beta_1, it + 1, xp)
        elif form == "paper" and self.amsgrad:
            found["lr"] = h.lr
        elif form:
            found["eps"] = h.epsilon * square_root(k2, xp)
        return found
