"""Spike guards: skip steps whose gradient norm or loss is far above that of recent steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._typing import Namespace, Scalar

__all__ = ["COUNT", "LOSS", "NORM", "TOLD", "Seen", "seen", "told"]

COUNT = {"spikes": 0.0}
"""Scalar state of both guards: number of steps skipped."""

NORM = {"norm_count": 0.0, "norm_mean": 0.0, "norm_variance": 0.0}
"""Scalar state of the guard on gradients: number of norms seen, their mean and variance."""

TOLD = {"loss_sum": 0.0, "loss_told": 0.0}
"""Sum and number of the losses passed for the next step."""

LOSS = {"loss_count": 0.0, "loss_mean": 0.0, "loss_variance": 0.0, **TOLD}
"""Scalar state of the guard on the loss."""

_LEAST = 2.0**-10
"""Least deviation, relative to the mean: equal norms must not spike by rounding errors."""


@dataclass(slots=True)
class Seen:
    """The verdict of the guards on a step.

    Attributes
    ----------
    spike : bool or 0-d array
        Whether the step is to be skipped.
    score : scalar or None
        Standard deviations between the gradient norm and the mean of earlier norms; NaN while
        the guard has seen too few, None without the guard.
    loss_score : scalar or None
        The same for the loss.
    numbers : dict of str to scalar
        The next scalar state, whether the step is skipped or not.
    """

    spike: Any = False
    score: Scalar | None = None
    loss_score: Scalar | None = None
    numbers: dict[str, Scalar] = field(default_factory=dict)


def told(held: Mapping[str, Scalar], total: Scalar, count: Scalar = 1.0) -> dict[str, Scalar]:
    """Return the scalar state after `count` losses with the sum `total` were passed."""
    return {"loss_sum": held["loss_sum"] + total, "loss_told": held["loss_told"] + count}


def seen(
    h: Mapping[str, Any],
    held: Mapping[str, Scalar],
    norm: Scalar | None,
    gradients: bool,
    xp: Namespace,
) -> Seen | None:
    """Judge the gradient norm and the loss of a step by those of earlier steps.

    The first ``window`` values have equal weights in mean and variance; from then on weights
    decay by ``1 - 1 / window`` per step. A spike counts as a value at the threshold, so that a
    new level is accepted after some steps; a value that is not finite is not counted.

    Parameters
    ----------
    h : mapping of str to object
        The hyperparameters: ``skip_spikes`` and ``skip_loss_spikes``, the thresholds in standard
        deviations above the mean; ``spike_window``, half of which must be seen before a finite
        value can be a spike; ``nonfinite``, which if ``"ignore"`` lets a norm that is not finite
        count as a spike.
    held : mapping of str to scalar
        The scalar state, with the keys `COUNT`, and of `NORM` and `LOSS` those of the guards
        that are active.
    norm : scalar or None
        The global norm of the gradients.
    gradients : bool
        Whether there are any gradients; without any, there is no norm to judge or count.
    xp : module
        Array functions: `numpy`, or those of a compiler while a step is traced.

    Returns
    -------
    Seen or None
        None if no guard is active.

    Raises
    ------
    ValueError
        If the loss guard is active, and the host knows that no loss was passed.
    """
    window, found = h["spike_window"], Seen()
    counts: Any = False
    if h["skip_spikes"] is not None and gradients:
        assert norm is not None
        spike, found.score, new = _judged(held, "norm", norm, h["skip_spikes"], window, xp)
        found.spike, found.numbers = spike, new
        counts = spike & (xp.isfinite(norm) | (h["nonfinite"] == "ignore"))
    if h["skip_loss_spikes"] is not None:
        loss, known = _loss(held, xp)
        spike, found.loss_score, new = _judged(
            *(held, "loss", loss, h["skip_loss_spikes"], window, xp)
        )
        kept = {name: xp.where(known, x, held[name]) for name, x in new.items()}
        found.spike = found.spike | (spike & known)
        found.numbers = {**found.numbers, **kept, **TOLD}
        counts = counts | (spike & known)
    if not found.numbers:
        return None
    found.numbers["spikes"] = held["spikes"] + xp.where(counts, 1.0, 0.0)
    if xp is np:
        found.spike = bool(found.spike)
        found.numbers = {k: float(x) for k, x in found.numbers.items()}
    else:
        found.numbers = {k: xp.asarray(x) for k, x in found.numbers.items()}
    return found


def _loss(held: Mapping[str, Scalar], xp: Namespace) -> tuple[Scalar, Any]:
    """Return the mean of the losses passed for a step, and whether there are any."""
    count = held["loss_told"]
    known = count > 0.0
    if xp is np and not known:
        raise ValueError(
            "skip_loss_spikes: found a step without a loss, wanted the loss that its gradients "
            "were computed from; call tell_loss(loss) before each step, or minimize(loss, params). "
            "Nothing has changed"
        )
    return held["loss_sum"] / xp.where(known, count, 1.0), known


def _judged(
    held: Mapping[str, Scalar],
    what: str,
    value: Scalar,
    threshold: Scalar,
    window: int,
    xp: Namespace,
) -> tuple[Any, Scalar, dict[str, Scalar]]:
    """Return whether a value is a spike, its score, and the updated statistics."""
    value = float(value) if xp is np else value
    count, mean, variance = (held[f"{what}_{name}"] for name in ("count", "mean", "variance"))
    # A loss may be negative, or have zero mean.
    spread = xp.maximum(xp.sqrt(variance), _LEAST * abs(mean))
    top = mean + threshold * spread
    # Values that were all zero do not tell what size to expect.
    finite, ready = xp.isfinite(value), (count >= window // 2) & (spread > 0.0)
    spike = (ready & (value > top)) | ~finite
    counted = xp.where(finite, xp.where(ready, xp.minimum(value, top), value), mean)
    # Exact mean and variance of the first values, then a moving average.
    share = xp.where(finite, 1.0 / xp.minimum(count + 1.0, float(window)), 0.0)
    delta = counted - mean
    numbers = {
        f"{what}_count": count + xp.where(finite, 1.0, 0.0),
        f"{what}_mean": mean + share * delta,
        f"{what}_variance": (1.0 - share) * (variance + share * delta * delta),
    }
    score = xp.where(ready, (value - mean) / xp.where(spread > 0.0, spread, 1.0), math.nan)
    return spike, float(score) if xp is np else score, numbers
