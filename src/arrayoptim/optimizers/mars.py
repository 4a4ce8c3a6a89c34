"""MARS."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Namespace, Scalar
from ..config.hyper import bias_correction, hyper, square_root
from ..config.registry import register
from ..config.typed import MaybeNumber, Number
from ..optimizer import Optimizer
from ..rules.rule import Rule, rule
from .adam import adam, adam_numbers


def mars_direction(p, g, m, v, o, k, xp):
    return g + k * (g - o), m, v, g


def mars_shrink(size, p, d, xp):
    # Not a maximum: a NaN norm would spoil the whole step instead of single entries.
    return {"shrink": 1.0 / xp.where(d > 1.0, d, 1.0)}


@rule(
    slots=("momentum", "velocity", "last_gradient"),
    direction=mars_direction,
    ratio=mars_shrink,
    measured=("shrink",),
)
def mars(p, g, m, v, o, shrink, rate, mu, nu, rho, sigma, tiny, xp):
    c = shrink * g
    m = mu * m + nu * c
    v = rho * v + sigma * (c * c)
    return p - rate * (m / (xp.sqrt(v) + tiny)), m, v, o


def mars_lion_direction(p, g, m, o, k, xp):
    return g + k * (g - o), m, g


@rule(
    slots=("momentum", "last_gradient"),
    direction=mars_lion_direction,
    ratio=mars_shrink,
    measured=("shrink",),
)
def mars_lion(p, g, m, o, shrink, rate, mu, nu, xp):
    m = mu * m + nu * (shrink * g)
    return p - rate * xp.sign(m), m, o


@register
class MARS(Optimizer):
    """AdamW or Lion on variance-reduced gradients, corrected by the previous gradient.

    For pretraining of transformers, where successive gradients are similar. 12 bytes of state per
    float32 parameter of a matrix, 8 with ``variant="lion"``, 8 of vectors and scalars; two passes
    over the arrays.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        Step size, in units of the parameter. ``learning_rate`` is accepted.
    beta_1 : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    beta_2 : float in [0, 1) or schedule
        Decay rate of the running mean of squares, per step.
    gamma : float in [0, inf) or schedule
        Weight of the difference from the last gradient, as in the paper.
    epsilon : float in [0, inf)
        Added to the root, after the bias correction.
    decay : float in [0, inf)
        ``lr`` is divided by ``1 + decay * iterations``.
    variant : {"adamw", "lion"}
        Whether a step is divided by the root mean square, or is the sign of the mean.
    optimize_1d : bool
        Whether vectors and scalars are stepped in the same way; otherwise `Adam` steps them.
    adam_lr_ratio : float in [0, inf) or schedule
        Step size of the parameters that Adam steps, in units of ``lr``.
    adam_beta_1 : float in [0, 1) or schedule
        Decay rate of its running mean, per step.
    adam_beta_2 : float in [0, 1) or schedule
        Decay rate of its running mean of squares, per step.
    adam_weight_decay : float in [0, inf) or schedule, optional
        Decoupled weight decay of the parameters that Adam steps; `weight_decay`, as for matrices,
        if None.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slots ``momentum``, ``velocity`` (not with ``variant="lion"``) and ``last_gradient`` (shape of
    the parameter), initially zero; ``t`` counts steps from 1, and ``|c|`` is the Euclidean norm
    over a tensor::

        c = g + gamma * beta_1 / (1 - beta_1) * (g - last_gradient);  last_gradient = g
        c = c / max(1, |c|)
        m = beta_1 * m + (1 - beta_1) * c
        v = beta_2 * v + (1 - beta_2) * c**2
        p = p - lr * m / (1 - beta_1**t) / (sqrt(v / (1 - beta_2**t)) + eps)

    With ``variant="lion"`` the last line is ``p - lr * sign(m)``. This is the approximate form,
    which uses the gradient of the last step's batch instead of that of this batch at the last
    point; it needs one gradient per step. Vectors and scalars have the formula of
    ``AdamW(preset="torch")``. As in the authors' code, where `weight_decay` is 0 for matrices and
    0.1 for vectors by default.

    References
    ----------
    Yuan, Liu, Wu, Zhou, Gu (2024), MARS: Unleashing the Power of Variance Reduction for Training
    Large Models, algorithms 2 and 3.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> optimizer, w = ao.MARS(lr=0.1), np.array([[1.0, -2.0], [2.0, 1.0]])
    >>> for g in (np.full((2, 2), 0.1), np.array([[0.1, 0.1], [0.2, 0.0]])):
    ...     w = optimizer.apply(g, w)
    >>> w.round(4)
    array([[ 0.8022, -2.1978],
           [ 1.8025,  0.8566]])
    """

    lr: Number = hyper(default=0.003, interval="[0, inf)", doc="Step size.")
    beta_1: Number = hyper(default=0.95, interval="[0, 1)", doc="Decay rate of the mean.")
    beta_2: Number = hyper(
        default=0.99, interval="[0, 1)", doc="Decay rate of the mean of squares."
    )
    gamma: Number = hyper(
        default=0.025, interval="[0, inf)", doc="Weight of the difference of two gradients."
    )
    epsilon: Number = hyper(default=1e-08, interval="[0, inf)", doc="Added to the root.")
    decay: Number = hyper(default=0.0, interval="[0, inf)", doc="Decay of lr per step.")
    variant: str = hyper(
        default="adamw",
        choices=("adamw", "lion"),
        kw_only=True,
        doc="Whether steps are divided by a root mean square, or are signs.",
    )
    optimize_1d: bool = hyper(
        default=False, kw_only=True, doc="Whether vectors and scalars are stepped in the same way."
    )
    adam_lr_ratio: Number = hyper(
        default=1.0, interval="[0, inf)", kw_only=True, doc="Step size of Adam's part in lr."
    )
    adam_beta_1: Number = hyper(
        default=0.9, interval="[0, 1)", kw_only=True, doc="Decay rate of Adam's mean."
    )
    adam_beta_2: Number = hyper(
        default=0.95, interval="[0, 1)", kw_only=True, doc="Decay rate of Adam's mean of squares."
    )
    adam_weight_decay: MaybeNumber = hyper(
        default=None,
        interval="[0, inf)",
        kw_only=True,
        doc="Decoupled weight decay of what Adam steps; weight_decay if None.",
    )

    @property
    def rule(self) -> Rule:
        """The rule of matrices."""
        return mars if self.variant == "adamw" else mars_lion

    def rule_for(self, path: str, shape: tuple[int, ...]) -> Rule:
        """Return the rule of one parameter: Adam's unless a matrix or with `optimize_1d`."""
        return self.rule if len(shape) > 1 or self.optimize_1d else adam

    def words_for(self, rule: Rule) -> Mapping[str, str]:
        """Return the weight decay of the parameters that Adam steps."""
        own = rule is adam and self.adam_weight_decay is not None
        return {"weight_decay": "adam_weight_decay"} if own else {}

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        k1, k2 = (bias_correction(beta, it + 1, xp) for beta in (h.beta_1, h.beta_2))
        root, signs = square_root(k2, xp), self.variant == "lion"
        betas = h.adam_beta_1, h.adam_beta_2
        rest, rest_k2 = adam_numbers(h.lr * h.adam_lr_ratio, *betas, h.epsilon, it, xp)
        return {
            **rest,
            "rate": h.lr if signs else h.lr * root / k1,
            "k": h.gamma * h.beta_1 / (1.0 - h.beta_1),
            "mu": h.beta_1,
            "nu": 1.0 - h.beta_1,
            "tiny": h.epsilon * root,
            "eps": h.epsilon * square_root(rest_k2, xp),
            "rho": h.beta_2,
            "sigma": 1.0 - h.beta_2,
        }
