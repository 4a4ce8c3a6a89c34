"""Reports on steps, built on access."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config.groups import STARTING
from ..config.per_model import several
from ..gradients import Pending, clip_factor
from .take import Taken

_NO_PART = STARTING | {"seed", "spike_window", "threads"}
"""Scalars that are not reported."""


@dataclass(frozen=True)
class StepReport:
    """Report on the last step.

    Attributes
    ----------
    applied : bool
        Whether the step was taken; False if it was skipped because of a NaN or infinite gradient
        or a spike.
    step : int
        Its number, counted from 1; a skipped step does not advance it.
    global_norm : float, tuple of float or None
        Euclidean norm of all gradients, unscaled and before clipping. None if no option needed
        it: `clipnorm`, `clipnorm_per_tensor`, `nonfinite`, `skip_spikes` and
        ``measure="gradient"`` do. With `models`, a tuple with one norm per model, like all
        values here that differ between models.
    clip_factor : float, tuple of float or None
        Factor by which `clipnorm` scaled the gradients; None without `clipnorm`.
    tensor_norms : tuple of float or None
        The norm of each gradient, if `clipnorm_per_tensor` or ``measure="gradient"`` is set;
        None for a parameter without gradient.
    nonfinite : int or None
        Number of infinite and NaN gradient entries; None if not counted, or known only on a device.
    hyperparameters : dict of str to float
        The per-step values: schedules evaluated and ``lr`` decayed. Those that group k sets have
        the prefix ``k.``.
    norms : dict of str to dict
        For each entry of `measure`, norms by parameter path: ``"gradient"`` unscaled and before
        clipping, ``"update"`` of the change that the step made, ``"weight"`` of the parameter
        after the step. A parameter without a gradient has only the weight's norm, a skipped
        step only the gradients' norms.
    score : float or None
        Standard deviations between `global_norm` and the mean of earlier norms, for
        `skip_spikes`; None without `skip_spikes`, or while too few norms are known.
    loss_score : float or None
        The same for the loss, with `skip_loss_spikes`.
    """

    applied: bool
    step: int
    global_norm: float | tuple[float, ...] | None
    clip_factor: float | tuple[float, ...] | None
    tensor_norms: tuple[float | None, ...] | None = field(repr=False)
    nonfinite: int | None
    hyperparameters: dict[str, float | tuple[float, ...]]
    norms: dict[str, dict[str, float]] = field(default_factory=dict, repr=False)
    score: float | None = None
    loss_score: float | None = None


def report(taken: Taken) -> StepReport:
    """Return the report on a step; norms are copied from their devices."""
    values, size = taken.values, taken.size
    norm = _true(size.norm, size.unscale)
    bound, nonfinite = values[0]["clipnorm"], size.nonfinite
    if isinstance(norm, float) and nonfinite is None and math.isfinite(norm):
        nonfinite = 0
    known = size.norms
    if known is None and taken.settings.each and isinstance(size.norm, Pending):
        assert size.norm.read_each is not None
        known = size.norm.read_each()
    norms = None if known is None else tuple(_true(n, size.unscale) for n in known)
    if norm is None and norms is not None:
        norm = math.hypot(*(x for x in norms if x is not None))
    seen = taken.seen
    return StepReport(
        applied=taken.applied,
        step=taken.iterations + 1,
        global_norm=_plain(norm),
        clip_factor=None if bound is None or norm is None else _plain(clip_factor(norm, bound)),
        tensor_norms=norms,
        nonfinite=nonfinite,
        hyperparameters=dict(_numbers(taken)),
        norms={k: _by_path(taken.paths, row) for k, row in _norms(taken, norms)},
        score=None if seen is None else _known(seen.score),
        loss_score=None if seen is None else _known(seen.loss_score),
    )


def _known(score: Any) -> float | None:
    return None if score is None or math.isnan(float(score)) else float(score)


def _norms(taken: Taken, gradients: Any) -> Iterator[tuple[str, Any]]:
    if "gradient" in taken.settings.measures and gradients is not None:
        yield "gradient", gradients
    yield from (taken.norms or {}).items()


def _by_path(paths: Sequence[str], norms: Any) -> dict[str, float]:
    pairs = zip(paths, norms, strict=True)
    return {path: float(norm) for path, norm in pairs if norm is not None}


def _plain(value: Any) -> Any:
    """Return a scalar as a float, and per-model scalars as a tuple."""
    if several(value):
        return tuple(value.tolist())
    return None if value is None else float(value)


def _true(norm: Any, unscale: float) -> Any:
    if norm is None:
        return None
    if isinstance(norm, Pending):
        assert norm.read is not None
        norm = norm.read()
    return norm * unscale if several(norm) else float(norm) * unscale


def _numbers(taken: Taken) -> Iterator[tuple[str, Any]]:
    settings, values = taken.settings, taken.values
    exact = settings.effective(values, taken.iterations)
    for member, own, whole in zip(settings.members, values, exact, strict=True):
        for name in own:
            value = whole["lr"] if name == "lr" else own[name]
            counts = member.formula.hyperparameters[name].numeric and name not in _NO_PART
            if counts and value is not None:
                yield f"{member.prefix}{name}", tuple(value.tolist()) if several(value) else value
