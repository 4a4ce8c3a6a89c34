"""Averaged stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

from .._typing import Array, Namespace, Scalar
from ..config.hyper import either, hyper, in_float32
from ..config.presets import forms
from ..config.registry import register
from ..config.typed import Number
from ..numerics.slots import Start
from ..optimizer import Optimizer
from ..rules.rule import rule


@rule(slots=("mean",))
def asgd(p, g, a, eta, shrink, mu, xp):
    p = p - shrink * p - eta * g
    return p, a + mu * (p - a)


@register
class ASGD(Optimizer):
    """SGD with shrinking steps, which averages the parameters along the way.

    For convex losses, where the average converges at the optimal rate; `averages` returns it. 4
    bytes of state per float32 parameter.

    Parameters
    ----------
    lr : float in [0, inf) or schedule
        First step size, in units of parameter per gradient. ``learning_rate`` is accepted.
    lambd : float in [0, inf) or schedule
        Fraction by which a step of size 1 shrinks the parameter.
    alpha : float in [0, inf) or schedule
        Power of the decay of the step size.
    t0 : float in [0, inf) or schedule
        Steps before averaging begins; until then the average is the parameter.
    scalar_dtype : {"float32", "float64"}, optional
        Dtype to which the step size and the weight of the mean are rounded; float64 if None.
    **options
        Options of every optimizer, by keyword, such as `clipnorm`: see `Optimizer`.

    Notes
    -----
    Slot ``mean`` (shape of the parameter), initially the parameter; ``t`` counts steps from 0::

        eta = lr / (1 + lambd * lr * t)**alpha
        p = p - lambd * eta * p - eta * g
        mean = mean + (p - mean) / max(1, t - t0)

    Formula and defaults are torch's. torch initializes the mean with zeros, so a parameter without
    any gradient has a mean of 0 there, and its own value here. With `ema_momentum`, `averages`
    returns that average instead of this one. A step with a zero gradient shrinks the parameter.

    With ``preset="torch"`` a step uses the size computed by the previous step, the scalar state
    ``next_eta``, so a new ``lr`` takes effect one step later. ``scalar_dtype="float32"`` rounds as
    torch does unless its default dtype is float64.

    References
    ----------
    Polyak and Juditsky (1992), Acceleration of Stochastic Approximation by Averaging, equation 2;
    Bottou (2010), Large-Scale Machine Learning with Stochastic Gradient Descent, section 5, for
    the step size with ``lambd``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w, optimizer = np.array([1.0, -2.0]), ao.ASGD(lr=0.1, lambd=0.0, t0=1)
    >>> for _ in range(4):
    ...     w = optimizer.apply(np.ones(2), w)
    >>> w.round(4), optimizer.averages(w).round(4)
    (array([ 0.6, -2.4]), array([ 0.65, -2.35]))
    """

    presets = forms(torch="torch")

    rests = False

    lr: Number = hyper(default=0.01, interval="[0, inf)", doc="First step size.")
    lambd: Number = hyper(
        default=1e-4,
        interval="[0, inf)",
        wider={"torch": "(-inf, inf)"},
        doc="Fraction by which a step of size 1 shrinks the parameter.",
    )
    alpha: Number = hyper(
        default=0.75,
        interval="[0, inf)",
        wider={"torch": "(-inf, inf)"},
        doc="Power of the decay of the step size.",
    )
    t0: Number = hyper(
        default=1e6,
        interval="[0, inf)",
        wider={"torch": "(-inf, inf)"},
        doc="Steps before averaging begins.",
    )
    scalar_dtype: str | None = hyper(
        default=None,
        choices=("float32", "float64"),
        kw_only=True,
        doc="Dtype to which step sizes and weights of the mean are rounded.",
    )

    rule = asgd

    def initial_slots(self) -> dict[str, Start]:
        """Return the initial mean."""
        return {"mean": "parameter"}

    def initial_scalars(self) -> dict[str, float]:
        """Return the size of the next step if that is kept; the first step does not read it."""
        return {"next_eta": 0.0} if self.form else {}

    def average(self, h: SimpleNamespace, p: Array, slots: Mapping[str, Array]) -> Array:
        """Return the mean."""
        return slots["mean"]

    def coefficients(
        self, h: SimpleNamespace, it: Scalar, scalars: Mapping[str, Scalar], xp: Namespace
    ) -> dict[str, Scalar]:
        """Compute the coefficients of one step."""
        found = {"mu": 1.0 / xp.maximum(1.0, it - h.t0)}
        found["eta"] = h.lr / (1.0 + h.lambd * h.lr * it) ** h.alpha
        if "next_eta" in scalars:
            found["mu"] = either(it > 0, found["mu"], 1.0, xp)
            found["eta"] = either(it > 0, scalars["next_eta"], found["eta"], xp)
            found["next_eta"] = h.lr / (1.0 + h.lambd * h.lr * (it + 1)) ** h.alpha
        if self.scalar_dtype == "float32":
            found = {name: in_float32(value, xp) for name, value in found.items()}
        return found | {"shrink": h.lambd * found["eta"]}
