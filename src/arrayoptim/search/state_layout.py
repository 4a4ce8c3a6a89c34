"""The layout of a search's state: scalars, vectors, rows of vectors, and temporaries.

A name here is an index in the state of arrays, and in the address table of loops.
"""

from __future__ import annotations

from typing import NamedTuple

from .wolfe import USUAL, Bounds

BEGINNING, STATIONARY, LEVEL, STUCK = 0.0, 3.0, 4.0, 5.0
"""Stages besides those of a line search: before the first loss, and the three final ones."""

NUMBERS = (
    *("stage", "trials", "slow", "t", "value", "slope", "scale", "taken", "pairs", "parked"),
    *(f"{end}_{part}" for end in ("near", "far") for part in ("t", "value", "slope")),
)
"""Scalars of the state; ``pairs`` counts remembered pairs, ``parked`` is 1 after `best`."""

STAGE, TRIALS, SLOW, T, VALUE, SLOPE, SCALE, TAKEN, PAIRS, PARKED = range(10)
NEAR_T, NEAR_VALUE, NEAR_SLOPE, FAR_T, FAR_VALUE, FAR_SLOPE = range(10, 16)

VECTORS = ("point", "gradient", "direction", "near_gradient", "far_gradient")
"""Vectors of the state."""

POINT, GRADIENT, DIRECTION, NEAR_GRADIENT, FAR_GRADIENT = range(16, 21)

ROWS = ("steps", "changes")
"""Differences of points and of gradients, the newest last."""

STEPS, CHANGES = 21, 22

SQUARES = ("mixed", "curved")
"""Inner products of steps with changes, of which those with an earlier step count, and of changes
with one another."""

MIXED, CURVED = 23, 24

STATE = (*NUMBERS, *VECTORS, *ROWS, *SQUARES)

LOW, HIGH, GIVEN = 25, 26, 27
"""The box, and the gradient passed in."""

NEXT, THERE, FOUND, STEP, CHANGE, FREE, ACROSS, ALONG, WAY = range(28, 37)
"""The next trial point, and temporary vectors."""

COLUMN, AHEAD, BACK, DIAGONAL, P, BENT, RIGHT, W = range(37, 45)
"""Vectors with one number per pair."""

UPPER = 45
"""The triangle of MIXED."""


class Settings(NamedTuple):
    """The settings of a search; see `LBFGS`."""

    gtol: float = 1e-5
    ftol: float = 0.0
    least_share: float = 2.2e-16
    bounds: Bounds = USUAL
