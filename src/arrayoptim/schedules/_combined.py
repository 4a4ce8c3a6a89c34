"""Schedules composed of schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._typing import Namespace, Scalar
from ..config.fields import number, numbers, part, parts
from ._base import Schedule, register, value_of


@register
class Joined(Schedule):
    """One schedule after another; see `join`.

    Parameters
    ----------
    schedules : list of schedule or float
        Functions of the step, or constants.
    boundaries : list of int
        The first step of each schedule but the first, increasing.
    name : str, optional
        An arbitrary name.
    """

    schedules: Any = parts("What follows each other.")
    boundaries: Any = numbers(
        "First steps of the others.", "[1, inf)", increasing=True, integer=True
    )

    def _agree(self) -> None:
        if len(self.schedules) != len(self.boundaries) + 1:
            raise ValueError(
                f"Joined: found {len(self.schedules)} schedules for {len(self.boundaries)} "
                f"boundaries, wanted {len(self.boundaries) + 1}"
            )

    def value(self, t: Scalar, xp: Namespace) -> Scalar:
        """Compute the value at a step."""
        found = None
        starts = [0.0, *self.boundaries]
        for i, (start, schedule) in enumerate(zip(starts, self.schedules, strict=True)):
            # A part may be a lookup table, so it is never evaluated outside its own steps.
            own = xp.maximum(t, start)
            if i + 1 < len(starts):
                own = xp.minimum(own, starts[i + 1] - 1.0)
            value = value_of(schedule, own - start)
            found = value if found is None else xp.where(t >= start, value, found)
        return found


@register
class Scaled(Schedule):
    """A schedule multiplied by a number; see `scale`.

    Parameters
    ----------
    schedule : schedule or float
        A function of the step, or a constant.
    factor : float
        The number.
    name : str, optional
        An arbitrary name.
    """

    schedule: Any = part("What is multiplied.")
    factor: Any = number("The factor.")

    def value(self, t: Scalar, xp: Namespace) -> Scalar:
        """Compute the value at a step."""
        return value_of(self.schedule, t) * self.factor


def join(schedules: Sequence[Any], boundaries: Sequence[int]) -> Joined:
    """Concatenate schedules, each of which counts steps from its own start.

    Parameters
    ----------
    schedules : sequence of schedule or float
        Functions of the step, or constants.
    boundaries : sequence of int
        The first step of each schedule but the first, increasing.

    Returns
    -------
    Joined
        The schedule. It can be saved if its parts can.

    Raises
    ------
    TypeError
        If a part is neither a function nor a number, or is a `Plateau`, which takes the joined
        schedule as its own argument instead.
    ValueError
        If the number of schedules is not one more than that of boundaries.

    Examples
    --------
    >>> import arrayoptim as ao
    >>> s = ao.schedules
    >>> rate = s.join([s.LinearWarmup(0.5, 100), 0.5, s.CosineDecay(0.5, 1000)], [100, 500])
    >>> rate(50), rate(499), round(rate(1000), 12)
    (0.25, 0.5, 0.25)
    """
    return Joined(list(schedules), list(boundaries))


def scale(schedule: Any, factor: float) -> Scaled:
    """Multiply a schedule by a number.

    Parameters
    ----------
    schedule : schedule or float
        A function of the step.
    factor : float
        The number.

    Returns
    -------
    Scaled
        The schedule. It can be saved if its part can.

    Raises
    ------
    TypeError
        If the part is neither a function nor a number, or is a `Plateau`, which takes the scaled
        schedule as its own argument instead.

    Examples
    --------
    >>> import arrayoptim as ao
    >>> ao.schedules.scale(ao.schedules.LinearWarmup(0.5, 100), 0.1)(50)
    0.025
    """
    return Scaled(schedule, factor)
