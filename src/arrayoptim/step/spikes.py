"""Guards against spikes: gradients, or a loss, much larger than those of the steps before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._typing import Namespace, Scalar

__all__ = ["COUNT", "LOSS", "NORM", "TOLD", "Seen", "seen", "told"]

COUNT = {"spikes": 0.0}
"""The scalar state of both guards: steps skipped."""

NORM = {"norm_count": 0.0, "norm_mean": 0.0, "norm_variance": 0.0}
"""That of the guard on gradients: norms that were seen, their mean and variance."""

TOLD = {"loss_sum": 0.0, "loss_told": 0.0}
"""The sum of the losses that the next step has been told, and how many they are."""

LOSS = {"loss_count": 0.0, "loss_mean": 0.0, "loss_variance": 0.0, **TOLD}
"""The scalar state of the guard on the loss."""

_LEAST = 2.0**-10
"""Smallest deviation, in means: rounding alone makes no spike of norms that are all equal."""


@dataclass(slots=True)
class Seen:
    """What the guards make of a step.

    Attributes
    ----------
    spike : bool or 0-d array
        Whether the step is to be skipped.
    score : scalar or None
        Standard deviations between the norm of the gradients and the mean of those before; NaN
        before the guard knows enough of them, None without it.
    loss_score : scalar or None
        The same of the loss.
    numbers : dict of str to scalar
        The scalar state afterwards, whether the step is skipped or not.
    """

    spike: Any = False
    score: Scalar | None = None
    loss_score: Scalar | None = None
    numbers: dict[str, Scalar] = field(default_factory=dict)


def told(held: Mapping[str, Scalar], total: Scalar, count: Scalar = 1.0) -> dict[str, Scalar]:
    """Return the scalar state after the next step was told so many losses, of a certain sum."""
    return {"loss_sum": held["loss_sum"] + total, "loss_told": held["loss_told"] + count}


def seen(
    h: Mapping[str, Any],
    held: Mapping[str, Scalar],
    norm: Scalar | None,
    gradients: bool,
    xp: Namespace,
) -> Seen | None:
    """Judge the norm of all gradients of a step, and its loss, by those of the steps before.

    Up to ``window`` numbers have equal weights in mean and variance; from then on each counts
    ``1 - 1 / window`` of what it did a step before. A spike counts as a number at the threshold, so
    that a new level is accepted after some steps, and one that is not finite not at all.

    Parameters
    ----------
    h : mapping of str to object
        The hyperparameters: ``skip_spikes`` and ``skip_loss_spikes``, how many standard deviations
        over the mean a spike is; ``spike_window``, half of which has to be seen before a finite
        number is one; ``nonfinite``, without which a norm that is not finite is one too.
    held : mapping of str to scalar
        The scalar state, in which there are the names of `COUNT`, and of `NORM` and `LOSS` as far
        as these are judged.
    norm : scalar or None
        The norm.
    gradients : bool
        Whether there are any: where all are missing there is no norm to judge, or to learn from.
    xp : module
        Array functions: `numpy`, or those of a compiler while a step is traced.

    Returns
    -------
    Seen or None
        None where nothing was judged.

    Raises
    ------
    ValueError
        If the loss is to be judged, and the host knows that none was told.
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
    """Return the mean of the losses that a step was told, and whether there are any."""
    count = held["loss_told"]
    known = count > 0.0
    if xp is np and not known:
        raise ValueError(
            "skip_loss_spikes: found a step that was told no loss, wanted the loss that its "
            "gradients are of; call tell_loss(loss) before each step, or minimize(loss, params). "
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
    """Return whether a number is a spike, its score, and what is known of such numbers then."""
    value = float(value) if xp is np else value
    count, mean, variance = (held[f"{what}_{name}"] for name in ("count", "mean", "variance"))
    # A loss may be negative, or have zero as its mean.
    spread = xp.maximum(xp.sqrt(variance), _LEAST * abs(mean))
    top = mean + threshold * spread
    # Numbers that have all been zero say nothing of how large the others may be.
    finite, ready = xp.isfinite(value), (count >= window // 2) & (spread > 0.0)
    spike = (ready & (value > top)) | ~finite
    counted = xp.where(finite, xp.where(ready, xp.minimum(value, top), value), mean)
    # The exact mean and variance of the first ones, and from then on a moving average.
    share = xp.where(finite, 1.0 / xp.minimum(count + 1.0, float(window)), 0.0)
    delta = counted - mean
    numbers = {
        f"{what}_count": count + xp.where(finite, 1.0, 0.0),
        f"{what}_mean": mean + share * delta,
        f"{what}_variance": (1.0 - share) * (variance + share * delta * delta),
    }
    score = xp.where(ready, (value - mean) / xp.where(spread > 0.0, spread, 1.0), math.nan)
    return spike, float(score) if xp is np else score, numbers
