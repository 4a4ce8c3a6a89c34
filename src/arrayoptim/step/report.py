"""What a step did, put together when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..config.groups import STARTING
from ..gradients import Pending, clip_factor
from .take import Taken

_NO_PART = STARTING | {"seed", "threads"}
"""Numbers that a report leaves out."""


@dataclass(frozen=True)
class StepReport:
    """What the last step did.

    Attributes
    ----------
    applied : bool
        Whether it was taken; False where a gradient that was not finite made it be left out.
    step : int
        Its number, counted from 1; that of a step left out comes again.
    global_norm : float or None
        Euclidean norm of all gradients, in their true size, before clipping. None where no stage
        of the step needed it: `clipnorm`, `clipnorm_per_tensor` and `nonfinite` do. To have it
        without clipping, give ``clipnorm=float("inf")``.
    clip_factor : float or None
        What the gradients were multiplied by for `clipnorm`; None without it.
    tensor_norms : tuple of float or None
        The norm of each gradient, for `clipnorm_per_tensor`; None for None.
    nonfinite : int or None
        Infinite and NaN entries of the gradients; None where nobody looked, or only a device knows.
    hyperparameters : dict of str to float
        The numbers of the step, schedules evaluated and ``lr`` decayed. What group k has for itself
        stands under ``k.`` and the name.
    """

    applied: bool
    step: int
    global_norm: float | None
    clip_factor: float | None
    tensor_norms: tuple[float | None, ...] | None = field(repr=False)
    nonfinite: int | None
    hyperparameters: dict[str, float]


def report(taken: Taken) -> StepReport:
    """Make a report; norms are fetched from their devices."""
    values, size = taken.values, taken.size
    norm = _true(size.norm, size.unscale)
    bound, nonfinite = values[0]["clipnorm"], size.nonfinite
    if norm is not None and nonfinite is None and math.isfinite(norm):
        nonfinite = 0
    norms = size.norms
    return StepReport(
        applied=taken.applied,
        step=taken.iterations + 1,
        global_norm=norm,
        clip_factor=None if bound is None or norm is None else float(clip_factor(norm, bound)),
        tensor_norms=None if norms is None else tuple(_true(n, size.unscale) for n in norms),
        nonfinite=nonfinite,
        hyperparameters=dict(_numbers(taken)),
    )


def _true(norm: Any, unscale: float) -> float | None:
    if norm is None:
        return None
    if isinstance(norm, Pending):
        assert norm.read is not None
        norm = norm.read()
    return float(norm) * unscale


def _numbers(taken: Taken) -> Iterator[tuple[str, float]]:
    settings, values = taken.settings, taken.values
    exact = settings.effective(values, taken.iterations)
    for member, own, whole in zip(settings.members, values, exact, strict=True):
        for name in own:
            value = whole["lr"] if name == "lr" else own[name]
            counts = member.formula.hyperparameters[name].numeric and name not in _NO_PART
            if counts and value is not None:
                yield f"{member.prefix}{name}", value
