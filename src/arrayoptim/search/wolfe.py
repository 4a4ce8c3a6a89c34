"""The strong Wolfe line search, as a state machine.

Given the result of a trial step, it either accepts a step or returns the next trial. First the step
grows until a minimum is bracketed, then the bracket shrinks, both by cubic interpolation:
M. Schmidt, minFunc (2005); J. Nocedal and S. Wright, Numerical Optimization, section 3.5. Its
functions are also compiled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

BRACKETING, SHRINKING = 1.0, 2.0
"""Stages of a search."""

AGAIN, TRIAL, NEAR, FAR, NOWHERE = 0, 1, 2, 3, 4
"""What is accepted: nothing yet, the trial, an end of the bracket, or no step at all."""

KEEP, TOLD, OTHER = 0, 1, 2
"""What replaces an end of the bracket: itself, the trial, or the other end."""


class Point(NamedTuple):
    """A step along the line, the loss there, and its derivative along the line."""

    t: Any
    value: Any
    slope: Any


class Line(NamedTuple):
    """A running search: its stage, number of further trials, and the ends of the bracket."""

    stage: Any
    trials: Any
    slow: Any
    near: Point
    far: Point


class Bounds(NamedTuple):
    """The conditions on a step, and when to give up."""

    decrease: float = 1e-4
    curvature: float = 0.9
    trials: int = 25
    width: float = 1e-9


USUAL = Bounds()


def advance(
    ns: Any, line: Line, start: Point, told: Point, largest: Any, bounds: Bounds
) -> tuple[Line, Any, Any, tuple[Any, Any]]:
    """Process the result of a trial.

    Parameters
    ----------
    ns : Plain
        The operations.
    line : Line
        The search so far.
    start, told : Point
        The starting point, with step 0, and the trial.
    largest : number
        The largest magnitude of an entry of the direction.
    bounds : Bounds
        The conditions.

    Returns
    -------
    line : Line
        The updated search.
    t : number
        The next trial.
    taken : number
        What is accepted, if anything.
    ends : tuple of number
        What replaced the near and the far end of the bracket.
    """
    near, far = line.near, line.far
    growing, spent = line.stage == BRACKETING, line.trials >= bounds.trials
    shrinking = ns.negation(growing)
    steep = told.value > start.value + bounds.decrease * told.t * start.slope
    flat = ns.magnitude(told.slope) <= -bounds.curvature * start.slope

    # Bracketing.
    over = steep | ((line.trials > 1) & (told.value >= near.value))
    ended = growing & spent
    open_ = growing & ns.negation(spent)
    enough = open_ & ns.negation(over) & flat
    found = open_ & ns.negation(enough) & (over | (told.slope >= 0))
    further = open_ & ns.negation(enough | found)
    t = told.t
    if not ns.nowhere(further):
        t = cubic(ns, near, told, t + 0.01 * (t - near.t), t * 10)

    taken = ns.where(enough, TRIAL, AGAIN)
    taken = ns.where(ended, ns.where(told.value < start.value, TRIAL, NOWHERE), taken)
    trials = line.trials + 1
    if ns.nowhere(shrinking | found):
        code = ns.where(further, TOLD, KEEP)
        new_near = near if ns.nowhere(further) else become(ns, code, near, told, far)
        return Line(line.stage, trials, line.slow, new_near, far), t, taken, (code, KEEP)

    # Shrinking.
    ends, enough = inner_ends(ns, line, told, (shrinking, further, found), (steep, flat))
    new_near = become(ns, ends[0], near, told, far)
    new_far = become(ns, ends[1], far, told, near)
    within, slowly = shrunk(ns, new_near, new_far, line.slow)
    narrow = ns.magnitude(new_far.t - new_near.t) * largest < bounds.width
    inside = (found | shrinking) & ns.negation(enough)
    best = ns.where(new_near.value <= new_far.value, NEAR, FAR)
    best = ns.where(ns.where(best == NEAR, new_near.t, new_far.t) == 0, NOWHERE, best)
    taken = ns.where(enough, TRIAL, ns.where(inside & (spent | narrow), best, taken))
    stage = ns.where(found | shrinking, SHRINKING, BRACKETING)
    slow = ns.where(slowly & inside, 1.0, 0.0)
    return Line(stage, trials, slow, new_near, new_far), ns.where(inside, within, t), taken, ends


def inner_ends(
    ns: Any, line: Line, told: Point, which: tuple[Any, Any, Any], how: tuple[Any, Any]
) -> tuple[tuple[Any, Any], Any]:
    """Return what replaces the ends of the bracket, and where the trial inside it is accepted."""
    (shrinking, further, found), (steep, flat) = which, how
    near, far = line.near, line.far
    first = near.value <= far.value
    worse = steep | (told.value >= ns.where(first, near.value, far.value))
    better, last = ns.negation(worse), ns.negation(first)
    ahead = ns.where(first, far.t - near.t, near.t - far.t)
    turned = shrinking & better & ns.negation(flat) & (told.slope * ahead >= 0)
    to_near = further | (shrinking & ((worse & last) | (better & first)))
    to_far = found | (shrinking & ((worse & first) | (better & last)))
    ends = (
        ns.where(turned & last, OTHER, ns.where(to_near, TOLD, KEEP)),
        ns.where(turned & first, OTHER, ns.where(to_far, TOLD, KEEP)),
    )
    return ends, shrinking & better & flat


def become(ns: Any, code: Any, end: Point, told: Point, other: Point) -> Point:
    """Return the replacement of an end of the bracket, given its code."""
    return chosen(ns, code == KEEP, end, chosen(ns, code == TOLD, told, other))


def chosen(ns: Any, condition: Any, one: Point, other: Point) -> Point:
    """Return one of two points."""
    return Point(
        ns.where(condition, one.t, other.t),
        ns.where(condition, one.value, other.value),
        ns.where(condition, one.slope, other.slope),
    )


def cubic(ns: Any, one: Point, other: Point, low: Any, high: Any) -> Any:
    """Return the minimum of the cubic through two points in an interval, or its midpoint."""
    first = one.t <= other.t
    left, right = chosen(ns, first, one, other), chosen(ns, first, other, one)
    # The product comes first, to follow torch's trajectories bit for bit.
    chord = ns.ratio(3 * (left.value - right.value), left.t - right.t)
    d1 = left.slope + right.slope - chord
    square = d1 * d1 - left.slope * right.slope
    d2 = ns.root(square)
    share = ns.ratio(right.slope + d2 - d1, right.slope - left.slope + 2 * d2)
    t = right.t - (right.t - left.t) * share
    inside = ns.minimum(ns.maximum(t, low), high)
    return ns.where((square >= 0) & ns.finite(t), inside, (low + high) / 2)


def shrunk(ns: Any, near: Point, far: Point, slow: Any) -> tuple[Any, Any]:
    """Return the next trial inside a bracket, kept away from its ends if progress is slow."""
    low, high = ns.minimum(near.t, far.t), ns.maximum(near.t, far.t)
    t = cubic(ns, near, far, low, high)
    margin = 0.1 * (high - low)
    at_end = ns.minimum(high - t, t - low) < margin
    push = at_end & ((slow > 0) | (t >= high) | (t <= low))
    nearer = ns.magnitude(t - high) < ns.magnitude(t - low)
    pushed = ns.where(nearer, high - margin, low + margin)
    return ns.where(push, pushed, t), at_end & ns.negation(push)
