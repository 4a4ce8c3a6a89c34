"""What a step did, put together when it is asked for."""

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
"""Numbers that a report leaves out."""


@dataclass(frozen=True)
class StepReport:
    """What the last step did.

    Attributes
    ----------
    applied : bool
        Whether it was taken; False where a gradient that was not finite, or a spike, made it be
        left out.
    step : int
        Its number, counted from 1; that of a step left out comes again.
    global_norm : float, tuple of float or None
        Euclidean norm of all gradients, in their true size, before clipping. None where no stage
        of the step needed it: `clipnorm`, `clipnorm_per_tensor`, `nonfinite`, `skip_spikes` and
        ``measure="gradient"`` do. Of many models the norm of each, as other numbers that differ
        between models are tuples too.
    clip_factor : float, tuple of float or None
        What the gradients were multiplied by for `clipnorm`; None without it.
    tensor_norms : tuple of float or None
        The norm of each gradient, for `clipnorm_per_tensor` and ``measure="gradient"``; None for
        None.
    nonfinite : int or None
        Infinite and NaN entries of the gradients; None where nobody looked, or only a device knows.
    hyperparameters : dict of str to float
        The numbers of the step, schedules evaluated and ``lr`` decayed. What group k has for itself
        stands under ``k.`` and the name.
    norms : dict of str to dict
        For each word of `measure`, the norm by the parameter's path: of the gradient, in its true
        size and before clipping; of the step, as far as it changed the parameter; of the parameter
        after it. Parameters without a gradient have only the last, a step left out only the first.
    score : float or None
        Standard deviations between `global_norm` and the mean of those before, for `skip_spikes`;
        None without it, and as long as too few are known.
    loss_score : float or None
        The same of the loss, for `skip_loss_spikes`.
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
    """Make a report; norms are fetched from their devices."""
    values, size = taken.values, taken.size
    norm = _true(size.norm, size.unscale)
    bound, nonfinite = values[0]["clipnorm"], size.nonfinite
    if isinstance(norm, float) and nonfinite is None and math.isfinite(norm):
        nonfinite = 0
    norms = None if size.norms is None else tuple(_true(n, size.unscale) for n in size.norms)
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
    """Return a number as a float, and those of many models as a tuple."""
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
