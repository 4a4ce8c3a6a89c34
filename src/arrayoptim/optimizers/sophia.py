"""Sophia."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import bias_correction, hyper
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number
from ..rules.rule import rule
from ._curvature import CurvatureOptimizer


@rule(slots=("momentum", "hessian"), exact=("hessian",))
def sophia(p, g, m, h, lr, b1, c1, gamma, eps, low, top, xp):
    m = b1 * m + c1 * g
    u = m / xp.maximum(gamma * h, eps)
    return p - lr * xp.minimum(xp.maximum(u, low), top), m, h


@register
class Sophia(CurvatureOptimizer):
    """Step along the momentum divided by the caller's estimate of the Hessian's diagonal, clipped.

    For language models, where curvature differs greatly between weights. Every ten steps or so,
    estimate the Hessian's diagonal, which costs another gradient, and pass it to `update_hessian`.
    8 bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter: no entry moves by more. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean of gradients, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of estimates, per estimate.
    gamma : float in [0, inf) or schedule
        Factor of the curvature. Choose it such that a tenth to a half of all entries move by less
        than ``lr``; a larger value raises that fraction.
    epsilon : float in (0, inf)
        Minimum curvature, which also replaces negative ones.
    clip_threshold : float in (0, inf] or schedule
        Bound on the factor of `lr`.
    bias_correction : bool
        Whether ``m`` is divided by ``1 - beta_1**t`` for a step, with ``t`` counting from 1, as in
        optax.
    **options
        Options of every optimizer, by keyword, such as `weight_decay`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum`` and ``hessian`` (shape of the parameter), the latter in the compute dtype,
    regardless of ``state_dtype``::

        m = beta_1 * m + (1 - beta_1) * g
        p = p - lr * clip(m / max(gamma * h, epsilon), -clip_threshold, clip_threshold)
        h = beta_2 * h + (1 - beta_2) * estimate         # in update_hessian

    Before the first estimate ``h`` is 0, and a step is the sign of ``m``. The paper has two
    estimators. Hutchinson's is ``u * (H u)``, with random signs ``u`` and ``H u`` the derivative of
    the gradient along ``u``. That of Gauss-Newton-Bartlett, for a model that outputs probabilities,
    is ``B * g**2``, with ``g`` the gradient of the mean loss over a batch of ``B`` whose labels are
    sampled from the model's own probabilities.

    The authors' code divides by ``gamma * h + 1e-15``. optax includes an estimate after a step, and
    has different defaults.

    References
    ----------
    Liu, Li, Hall, Liang, Ma (2023), Sophia: A Scalable Stochastic Second-order Optimizer for
    Language Model Pre-training, algorithms 1 to 3.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w, optimizer = np.array([1.0, -2.0]), ao.Sophia(lr=0.1, beta_1=0.0, gamma=1.0)
    >>> optimizer.update_hessian(np.array([400.0, 1.0]), w)
    >>> optimizer.apply(np.array([2.0, 0.5]), w)
    array([ 0.95, -2.1 ])
    """

    presets = forms("paper")

    lr: Number = hyper(default=0.0001, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(default=0.965, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: Number = hyper(default=0.99, interval="[0, 1)", doc="Decay rate of the estimates.")
    gamma: Number = hyper(default=0.05, interval="[0, inf)", doc="Factor of the curvature.")
    epsilon: Number = hyper(default=1e-12, interval="(0, inf)", doc="Least curvature.")
    clip_threshold: Number = hyper(
        default=1.0, interval="(0, inf]", doc="Bound on the factor of lr."
    )
    bias_correction: bool = hyper(
        default=False, kw_only=True, doc="Whether the mean of gradients is corrected."
    )

    rule = sophia

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        k1 = bias_correction(h.beta_1, it + 1, xp) if self.bias_correction else 1.0
        return {
            "lr": h.lr,
            "b1": h.beta_1,
            "c1": 1.0 - h.beta_1,
            "gamma": h.gamma * k1,
            "eps": h.epsilon * k1,
            "low": -h.clip_threshold,
            "top": h.clip_threshold,
        }
