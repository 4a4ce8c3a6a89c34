"""A line search that calls the loss, along one direction of one problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .vocabulary import Plain
from .wolfe import (
    AGAIN,
    BRACKETING,
    FAR,
    NEAR,
    NOWHERE,
    OTHER,
    TOLD,
    Bounds,
    Line,
    Point,
    advance,
)


class Taken(NamedTuple):
    """The result of a search: the step, which may be 0, and the loss and gradient there."""

    t: Any
    value: Any
    gradient: Any
    evaluations: int


def along(
    evaluate: Callable[[Any], tuple[Any, Any, Any]],
    start: Point,
    gradient: Any,
    t: Any,
    largest: Any,
    bounds: Bounds,
    ns: Plain,
) -> Taken:
    """Search for a step that satisfies the strong Wolfe conditions.

    Parameters
    ----------
    evaluate : callable
        Returns, for a step, the loss, its derivative along the direction, and the gradient.
    start : Point
        The starting point, with step 0.
    gradient : array
        The gradient there.
    t : number
        The first step to try.
    largest : number
        The largest magnitude of an entry of the direction.
    bounds : Bounds
        The conditions.
    ns : Plain
        The scalar functions.
    """
    evaluations, taken = 0, AGAIN
    line = Line(BRACKETING, 0, 0.0, start, start)
    ends: list[Any] = [gradient, gradient]
    told, found = start, gradient
    while taken == AGAIN:
        value, slope, found = evaluate(t)
        evaluations += 1
        usable = ns.finite(value) and ns.finite(slope)
        told = Point(t, value, slope) if usable else Point(t, float("inf"), 0.0)
        line, t, taken, become = advance(ns, line, start, told, largest, bounds)
        pairs = zip(become, ends, ends[::-1], strict=True)
        ends = [{TOLD: found, OTHER: other}.get(code, own) for code, own, other in pairs]
    if taken == NOWHERE:
        return Taken(0.0, start.value, gradient, evaluations)
    if taken == NEAR:
        return Taken(line.near.t, line.near.value, ends[0], evaluations)
    if taken == FAR:
        return Taken(line.far.t, line.far.value, ends[1], evaluations)
    return Taken(told.t, told.value, found, evaluations)
