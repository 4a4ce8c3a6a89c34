"""The schedule that watches a metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._typing import Namespace, Scalar
from ..config.fields import choice, number, part
from ._base import Schedule, namespace, register, value_of

WORST = float(np.finfo(np.float32).max)
"""Initial value of the best metric: finite, in float32 too."""


@register
class Plateau(Schedule):
    """Reduce another schedule, or a number, when a metric has stopped improving.

    Pass the metric to `Optimizer.observe`, or to `Optimizer.stateless_observe` in the functional
    form. The schedule itself is immutable: its four scalars are part of the optimizer's state,
    saved and restored with it.

    Parameters
    ----------
    schedule : schedule or float
        The schedule to reduce: a number, or a function of the step.
    factor : float in (0, 1)
        Factor of each reduction.
    patience : int in [0, inf)
        Consecutive metrics without improvement before a reduction.
    mode : {"min", "max"}
        Whether a lower or a higher metric is better.
    min_delta : float in [0, inf)
        Minimum improvement of the metric, as an absolute difference.
    cooldown : int in [0, inf)
        Number of metrics that are ignored after a reduction.
    min_lr : float
        Lower bound on the value.
    name : str, optional
        An arbitrary name.

    Notes
    -----
    The value is ``max(scale * schedule(t), min_lr)``. The scalar state, prefixed with the name of
    the hyperparameter and a dot, is ``scale`` (initially 1), ``best`` (the best metric; initially
    the largest float32), ``waited`` (metrics without improvement) and ``rest`` (remaining metrics
    of the cooldown). Each metric is handled in the order of Keras's ``ReduceLROnPlateau``, where a
    nonfinite metric may become the best; here it never counts as an improvement. torch's scheduler
    of that name has a relative threshold by default and reduces after ``patience + 1`` metrics.

    Setting the hyperparameter to another `Plateau` or a number starts afresh.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> opt = ao.SGD(lr=ao.schedules.Plateau(0.5, factor=0.5, patience=2))
    >>> opt.init(np.zeros(3))
    >>> rates = []
    >>> for loss in (1.0, 0.9, 0.9, 0.9, 0.8):
    ...     opt.observe(loss)
    ...     rates.append(opt.lr)
    >>> rates
    [0.5, 0.5, 0.5, 0.25, 0.25]
    """

    schedule: Any = part("What is reduced.")
    factor: Any = number("The factor.", "(0, 1)", default=0.1)
    patience: Any = number("Metrics to wait.", "[0, inf)", default=10, integer=True)
    mode: str = choice("Which metric is better.", "min", "max", default="min")
    min_delta: Any = number("The least improvement.", "[0, inf)", default=1e-4)
    cooldown: Any = number("Metrics not counted.", "[0, inf)", default=0, integer=True)
    min_lr: Any = number("Lower bound on the value.", default=0.0)

    def initial_scalars(self) -> dict[str, float]:
        """Return the state before the first metric."""
        best = WORST if self.mode == "min" else -WORST
        return {"scale": 1.0, "best": best, "waited": 0.0, "rest": 0.0}

    def __call__(self, step: Any, scalars: Mapping[str, Scalar] | None = None) -> Any:
        """Return the value at a step; without state, the value before the first metric.

        Parameters
        ----------
        step : int, or array of int
            The number of steps taken before this one.
        scalars : mapping, optional
            The state; see `initial_scalars`.

        Returns
        -------
        float or array
            The value.
        """
        held = self.initial_scalars() if scalars is None else scalars
        value = held["scale"] * super().__call__(step)
        xp = namespace(value)
        return max(value, self.min_lr) if xp is None else xp.maximum(value, self.min_lr)

    def value(self, t: Scalar, xp: Namespace) -> Scalar:
        """Compute the value at a step without reductions."""
        return value_of(self.schedule, t)

    def observed(self, scalars: Mapping[str, Scalar], metric: Scalar) -> dict[str, Scalar]:
        """Return the state after a metric.

        Parameters
        ----------
        scalars : mapping
            The state before.
        metric : float or 0-d array
            The metric; it may be a tracer.

        Returns
        -------
        dict
            The new state.
        """
        found = map(namespace, [metric, *scalars.values()])
        xp = next((n for n in found if n not in (None, np)), np)
        if namespace(metric) in (None, np):
            metric = float(metric)
        sign = 1.0 if self.mode == "min" else -1.0
        best = scalars["best"]
        better = xp.isfinite(metric) & (sign * metric < sign * best - self.min_delta)
        rest = xp.maximum(scalars["rest"] - 1.0, 0.0)
        waited = xp.where(scalars["rest"] > 0.0, 0.0, scalars["waited"])
        waited = xp.where(better, 0.0, xp.where(rest > 0.0, waited, waited + 1.0))
        due = (waited >= max(self.patience, 1)) & ~better
        new = {
            "scale": xp.where(due, scalars["scale"] * self.factor, scalars["scale"]),
            "best": xp.where(better, metric, best),
            "waited": xp.where(due, 0.0, waited),
            "rest": xp.where(due, float(self.cooldown), rest),
        }
        if xp is np:
            return {name: float(value) for name, value in new.items()}
        return {name: xp.asarray(v, dtype=xp.asarray(0.0).dtype) for name, v in new.items()}
