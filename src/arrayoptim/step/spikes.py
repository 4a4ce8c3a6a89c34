"""A guard against spikes: gradients that are much larger than those of the steps before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._typing import Namespace, Scalar

__all__ = ["INITIAL", "Seen", "seen"]

INITIAL = {"spikes": 0.0, "norm_count": 0.0, "norm_mean": 0.0, "norm_variance": 0.0}
"""The scalar state: steps skipped, norms that were seen, their mean and variance."""

_LEAST = 2.0**-10
"""Smallest deviation, in means: rounding alone makes no spike of norms that are all equal."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the guard makes of the norm of a step.

    Attributes
    ----------
    spike : bool or 0-d array
        Whether the step is to be skipped.
    score : scalar
        Standard deviations between the norm and the mean of those before; NaN before the guard
        knows enough of them.
    numbers : dict of str to scalar
        The scalar state afterwards, whether the step is skipped or not.
    """

    spike: Any
    score: Scalar
    numbers: dict[str, Scalar]


def seen(h: Mapping[str, Any], held: Mapping[str, Scalar], norm: Scalar, xp: Namespace) -> Seen:
    """Judge the norm of all gradients of a step by those of the steps before.

    Up to ``window`` norms have equal weights in mean and variance; from then on each counts
    ``1 - 1 / window`` of what it did a step before. A spike counts as a norm at the threshold, so
    that a new level of norms is accepted after some steps, and one that is not finite not at all.

    Parameters
    ----------
    h : mapping of str to object
        The hyperparameters: ``skip_spikes``, how many standard deviations over the mean a spike is;
        ``spike_window``, half of which has to be seen before a finite norm is one; ``nonfinite``,
        without which one that is not finite is one too.
    held : mapping of str to scalar
        The scalar state, in which there are the names of `INITIAL`.
    norm : scalar
        The norm.
    xp : module
        Array functions: `numpy`, or those of a compiler while a step is traced.
    """
    host, window, threshold = xp is np, h["spike_window"], h["skip_spikes"]
    if host:
        norm = float(norm)
    count, mean, variance = held["norm_count"], held["norm_mean"], held["norm_variance"]
    spread = xp.maximum(xp.sqrt(variance), _LEAST * mean)
    top = mean + threshold * spread
    finite, ready = xp.isfinite(norm), count >= window // 2
    spike = (ready & (norm > top)) | ~finite
    counts = finite | (h["nonfinite"] == "ignore")
    counted = xp.where(finite, xp.where(ready, xp.minimum(norm, top), norm), mean)
    # The exact mean and variance of the first ones, and from then on a moving average.
    share = xp.where(finite, 1.0 / xp.minimum(count + 1.0, float(window)), 0.0)
    delta = counted - mean
    numbers = {
        "spikes": held["spikes"] + xp.where(spike & counts, 1.0, 0.0),
        "norm_count": count + xp.where(finite, 1.0, 0.0),
        "norm_mean": mean + share * delta,
        "norm_variance": (1.0 - share) * (variance + share * delta * delta),
    }
    known = ready & (spread > 0.0)
    score = xp.where(known, (norm - mean) / xp.where(spread > 0.0, spread, 1.0), math.nan)
    if host:
        return Seen(bool(spike), float(score), {k: float(x) for k, x in numbers.items()})
    return Seen(spike, score, {k: xp.asarray(x) for k, x in numbers.items()})
