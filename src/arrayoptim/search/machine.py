"""Limited-memory BFGS as a state machine: given loss and gradient, it returns the next point.

These functions are the whole algorithm. ``ns`` has the operations that they use, and ``s`` is the
state: on arrays, all problems of a batch at once (`arrays`), or compiled, one problem after another
(`loops`). Operations that write take a condition: they leave other problems of a batch unchanged.
"""

from __future__ import annotations

import math
from typing import Any

from .memory import aimed, learned
from .state_layout import (
    BEGINNING,
    DIRECTION,
    FAR_GRADIENT,
    FAR_SLOPE,
    FAR_T,
    FAR_VALUE,
    FOUND,
    GIVEN,
    GRADIENT,
    HIGH,
    LEVEL,
    LOW,
    NEAR_GRADIENT,
    NEAR_SLOPE,
    NEAR_T,
    NEAR_VALUE,
    NEXT,
    PAIRS,
    PARKED,
    POINT,
    SLOPE,
    SLOW,
    STAGE,
    STATIONARY,
    STUCK,
    TAKEN,
    THERE,
    TRIALS,
    VALUE,
    WAY,
    Settings,
    T,
)
from .wolfe import (
    AGAIN,
    BRACKETING,
    FAR,
    NEAR,
    NOWHERE,
    OTHER,
    TOLD,
    TRIAL,
    Line,
    Point,
    advance,
)

INFINITE = math.inf


def tell(ns: Any, s: Any, value: Any, settings: Settings) -> None:
    """Process the loss at the trial, with its gradient in GIVEN, and write the NEXT trial.

    Parameters
    ----------
    ns : Plain
        The operations.
    s : object
        The state, which is updated.
    value : number
        The loss of each problem.
    settings : Settings
        The settings of the search.
    """
    take_up(ns, s, value, settings)
    walk(ns, s, NEXT, ns.get(s, T))


def take_up(ns: Any, s: Any, value: Any, settings: Settings) -> None:
    """Update the state after a trial."""
    # After `best`, the loss is that of another, known point.
    running = (ns.get(s, STAGE) < STATIONARY) & (ns.get(s, PARKED) == 0)
    ns.put(s, PARKED, ns.constant(0.0))
    if ns.nowhere(running):
        return
    t = ns.get(s, T)
    walk(ns, s, THERE, t)
    slope = path_slope(ns, s, t)
    usable = ns.finite(value) & ns.finite(slope)
    value = ns.where(usable, value, ns.constant(INFINITE))
    told = Point(t, value, ns.where(usable, slope, ns.constant(0.0)))
    near = Point(ns.get(s, NEAR_T), ns.get(s, NEAR_VALUE), ns.get(s, NEAR_SLOPE))
    far = Point(ns.get(s, FAR_T), ns.get(s, FAR_VALUE), ns.get(s, FAR_SLOPE))
    line = Line(ns.get(s, STAGE), ns.get(s, TRIALS), ns.get(s, SLOW), near, far)
    start = Point(ns.constant(0.0), ns.get(s, VALUE), ns.get(s, SLOPE))
    largest = ns.largest(s, DIRECTION)
    line, t, taken, ends = advance(ns, line, start, told, largest, settings.bounds)
    first = ns.get(s, STAGE) == BEGINNING
    taken = ns.where(running, ns.where(first, TRIAL, taken), AGAIN)
    further(ns, s, line, t, ends, running)
    if not ns.nowhere(taken != AGAIN):
        onwards(ns, s, taken, value, first, settings)


def walk(ns: Any, s: Any, target: Any, t: Any) -> None:
    """Write the point at a step along the direction, projected onto the box."""
    if ns.boxed(s):
        ns.each4(s, target, walked_inside, POINT, DIRECTION, LOW, HIGH, t)
    else:
        ns.each2(s, target, walked, POINT, DIRECTION, t)


def walked(xp: Any, x: Any, way: Any, t: Any) -> Any:
    """Return a point along a direction."""
    return x + t * way


def walked_inside(xp: Any, x: Any, way: Any, low: Any, high: Any, t: Any) -> Any:
    """Return a point along a direction, projected onto the box."""
    return xp.minimum(xp.maximum(x + t * way, low), high)


def path_slope(ns: Any, s: Any, t: Any) -> Any:
    """Return the derivative of the loss along the path, which bends at the bounds."""
    if not ns.boxed(s):
        return ns.inner(s, GIVEN, DIRECTION)
    ns.each3(s, WAY, unbent, THERE, POINT, DIRECTION, t)
    return ns.inner(s, GIVEN, WAY)


def unbent(xp: Any, there: Any, x: Any, way: Any, t: Any) -> Any:
    """Return the direction where no bound is active, and 0 elsewhere."""
    return xp.where(there == x + t * way, way, 0.0)


def further(ns: Any, s: Any, line: Line, t: Any, ends: tuple[Any, Any], running: Any) -> None:
    """Write the next trial of the same line search."""
    ns.write(s, STAGE, line.stage, running)
    ns.write(s, TRIALS, line.trials, running)
    ns.write(s, SLOW, line.slow, running)
    ns.write(s, T, t, running)
    ns.write(s, NEAR_T, line.near.t, running)
    ns.write(s, NEAR_VALUE, line.near.value, running)
    ns.write(s, NEAR_SLOPE, line.near.slope, running)
    ns.write(s, FAR_T, line.far.t, running)
    ns.write(s, FAR_VALUE, line.far.value, running)
    ns.write(s, FAR_SLOPE, line.far.slope, running)
    near, far = ends
    # The two ends are never swapped.
    ns.take(s, NEAR_GRADIENT, FAR_GRADIENT, running & (near == OTHER))
    ns.take(s, FAR_GRADIENT, NEAR_GRADIENT, running & (far == OTHER))
    ns.take(s, NEAR_GRADIENT, GIVEN, running & (near == TOLD))
    ns.take(s, FAR_GRADIENT, GIVEN, running & (far == TOLD))


def onwards(ns: Any, s: Any, taken: Any, value: Any, first: Any, settings: Settings) -> None:
    """Start a new line search where a step has been accepted."""
    ended, nowhere = taken != AGAIN, taken == NOWHERE
    moved = ended & ns.negation(nowhere)
    value = arrive(ns, s, taken, value, moved)
    stepped = moved & ns.negation(first)
    learned(ns, s, stepped, settings)
    ns.take(s, POINT, THERE, moved)
    ns.take(s, GRADIENT, FOUND, moved)
    # It is stuck where even steepest descent made no progress.
    stuck = nowhere & (ns.get(s, PAIRS) == 0)
    t, slope = aimed(ns, s, first | nowhere, ended)

    stage = ns.where(stuck, STUCK, BRACKETING)
    before = ns.get(s, VALUE)
    if settings.ftol > 0:
        size = ns.maximum(ns.magnitude(before), ns.magnitude(value))
        fall = settings.ftol * ns.maximum(size, ns.constant(1.0))
        stage = ns.where(stepped & (before - value <= fall), LEVEL, stage)
    stage = ns.where(stillness(ns, s) <= settings.gtol, STATIONARY, stage)
    ns.write(s, STAGE, stage, ended)
    ns.write(s, TRIALS, ns.constant(0.0), ended)
    ns.write(s, SLOW, ns.constant(0.0), ended)
    ns.write(s, T, ns.where(stage == BRACKETING, t, 0.0), ended)
    ns.write(s, VALUE, value, ended)
    ns.write(s, SLOPE, slope, ended)
    ns.write(s, TAKEN, ns.get(s, TAKEN) + 1, stepped)
    ns.write(s, NEAR_T, ns.constant(0.0), ended)
    ns.write(s, NEAR_VALUE, value, ended)
    ns.write(s, NEAR_SLOPE, slope, ended)
    ns.take(s, NEAR_GRADIENT, GRADIENT, ended)


def arrive(ns: Any, s: Any, taken: Any, value: Any, moved: Any) -> Any:
    """Write the accepted point, with its gradient, and return its loss.

    It is the trial, an end of the bracket, or the start of the line search.
    """
    ns.copy(s, FOUND, GIVEN)
    value = ns.where(moved, value, ns.get(s, VALUE))
    value = back(ns, s, taken == NEAR, NEAR_T, NEAR_GRADIENT, NEAR_VALUE, value)
    return back(ns, s, taken == FAR, FAR_T, FAR_GRADIENT, FAR_VALUE, value)


def back(ns: Any, s: Any, where: Any, t: Any, gradient: Any, loss: Any, value: Any) -> Any:
    """Write an end of the bracket, with its gradient, where it was accepted; return the loss."""
    if ns.nowhere(where):
        return value
    walk(ns, s, WAY, ns.get(s, t))
    ns.take(s, THERE, WAY, where)
    ns.take(s, FOUND, gradient, where)
    return ns.where(where, ns.get(s, loss), value)


def stillness(ns: Any, s: Any) -> Any:
    """Return the largest entry of the projected gradient."""
    if not ns.boxed(s):
        return ns.largest(s, GRADIENT)
    ns.each4(s, WAY, projected, POINT, GRADIENT, LOW, HIGH, 1.0)
    return ns.largest(s, WAY)


def projected(xp: Any, x: Any, gradient: Any, low: Any, high: Any, t: Any) -> Any:
    """Return the displacement of a projected steepest descent step."""
    return xp.minimum(xp.maximum(x - gradient, low), high) - x
