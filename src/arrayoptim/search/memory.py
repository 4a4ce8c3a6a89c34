"""The curvature memory of a search, and the direction that follows from it.

The inverse Hessian is that of limited-memory BFGS in compact form: R. Byrd, J. Nocedal and
R. Schnabel, Mathematical Programming 63 (1994), equation 3.1. Steps and changes of the gradient
are the rows of two matrices, the newest last; missing pairs are rows of zeros. All functions but
the last are written like those of `machine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .state_layout import (
    ACROSS,
    AHEAD,
    ALONG,
    BACK,
    BENT,
    CHANGE,
    CHANGES,
    COLUMN,
    CURVED,
    DIAGONAL,
    DIRECTION,
    FOUND,
    FREE,
    GRADIENT,
    HIGH,
    LOW,
    MIXED,
    PAIRS,
    POINT,
    RIGHT,
    SCALE,
    STEP,
    STEPS,
    THERE,
    UPPER,
    P,
    Settings,
    W,
)


def learned(ns: Any, s: Any, stepped: Any, settings: Settings) -> None:
    """Remember a step and its gradient change, where the loss is convex along it."""
    if ns.nowhere(stepped):
        return
    ns.each2(s, STEP, difference, THERE, POINT, 1.0)
    ns.each2(s, CHANGE, difference, FOUND, GRADIENT, 1.0)
    curvature, square = ns.inner(s, STEP, CHANGE), ns.inner(s, CHANGE, CHANGE)
    # Both are changes of the loss along the step, so units do not matter.
    least = settings.least_share * ns.magnitude(ns.inner(s, STEP, GRADIENT))
    kept = stepped & (curvature > least) & ns.finite(square)
    ns.write(s, SCALE, ns.ratio(curvature, square), kept)
    ns.write(s, PAIRS, ns.minimum(ns.get(s, PAIRS) + 1, ns.memory(s)), kept)
    ns.shift(s, STEPS, STEP, kept)
    ns.shift(s, CHANGES, CHANGE, kept)
    # The products of all other pairs are known.
    ns.product(s, COLUMN, STEPS, CHANGE)
    ns.border(s, MIXED, COLUMN, kept)
    ns.product(s, COLUMN, CHANGES, CHANGE)
    ns.border(s, CURVED, COLUMN, kept)


def difference(xp: Any, x: Any, y: Any, _: Any) -> Any:
    """Return a difference."""
    return x - y


def aimed(ns: Any, s: Any, anew: Any, ended: Any) -> tuple[Any, Any]:
    """Write the next direction, and return the first step along it and its slope.

    Parameters
    ----------
    ns : Plain
        The operations.
    s : object
        The state.
    anew : condition
        Where to discard everything but the gradient.
    ended : condition
        Where a new direction is needed.
    """
    if ns.boxed(s):
        ns.each4(s, FREE, freed, GRADIENT, POINT, LOW, HIGH, 1.0)
        newton(ns, s, ended)
        ns.each5(s, ACROSS, masked, DIRECTION, GRADIENT, POINT, LOW, HIGH, 1.0)
        ns.take(s, DIRECTION, ACROSS, ended)
    else:
        ns.copy(s, FREE, GRADIENT)
        newton(ns, s, ended)
    slope = ns.inner(s, FREE, DIRECTION)
    # A failed line search, an ascent direction, or an empty memory.
    forgotten = ended & (anew | ns.negation(slope < 0) | (ns.get(s, PAIRS) == 0))
    if not ns.nowhere(forgotten):
        ns.forget(s, forgotten)
        ns.write(s, PAIRS, ns.constant(0.0), forgotten)
        ns.write(s, SCALE, ns.constant(1.0), forgotten)
        ns.each2(s, ACROSS, reverse, FREE, FREE, 1.0)
        ns.take(s, DIRECTION, ACROSS, forgotten)
        slope = ns.where(forgotten, -ns.inner(s, FREE, FREE), slope)
    length = ns.total(s, FREE)
    short = ns.where(length == 0, 1.0, ns.ratio(ns.constant(1.0), length))
    return ns.where(forgotten, ns.minimum(short, ns.constant(1.0)), 1.0), slope


def held(x: Any, gradient: Any, low: Any, high: Any) -> Any:
    """Return whether a bound is active that steepest descent would cross."""
    return ((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0))


def freed(xp: Any, gradient: Any, x: Any, low: Any, high: Any, _: Any) -> Any:
    """Return the gradient of the free variables."""
    return xp.where(held(x, gradient, low, high), 0.0, gradient)


def masked(xp: Any, way: Any, gradient: Any, x: Any, low: Any, high: Any, _: Any) -> Any:
    """Return the direction of the free variables."""
    return xp.where(held(x, gradient, low, high), 0.0, way)


def reverse(xp: Any, x: Any, _: Any, __: Any) -> Any:
    """Return the opposite direction."""
    return -x


def newton(ns: Any, s: Any, ended: Any) -> None:
    """Write the negated product of the inverse Hessian and the free gradient as the direction."""
    scale = ns.get(s, SCALE)
    ns.triangle(s, UPPER, DIAGONAL, MIXED)
    ns.product(s, AHEAD, STEPS, FREE)
    ns.product(s, BACK, CHANGES, FREE)
    ns.solve(s, P, UPPER, AHEAD)
    ns.multiply(s, BENT, CURVED, P)
    ns.few4(s, RIGHT, balanced, DIAGONAL, P, BENT, BACK, scale)
    ns.solve_turned(s, W, UPPER, RIGHT)
    ns.combine(s, ACROSS, CHANGES, P)
    ns.combine(s, ALONG, STEPS, W)
    ns.each3(s, ACROSS, assembled, ACROSS, FREE, ALONG, scale)
    ns.take(s, DIRECTION, ACROSS, ended)


def balanced(xp: Any, diagonal: Any, p: Any, bent: Any, back: Any, scale: Any) -> Any:
    """Return the right-hand side for the coefficients of the steps."""
    return diagonal * p + scale * (bent - back)


def assembled(xp: Any, across: Any, gradient: Any, along: Any, scale: Any) -> Any:
    """Return the direction, assembled from its three parts."""
    return scale * (across - gradient) - along


def two_loops(
    pairs: Sequence[tuple[Any, Any, Any]],
    scale: Any,
    gradient: Any,
    dot: Callable[[Any, Any], Any],
    plus: Callable[[Any, Any, Any], Any],
) -> Any:
    """Return the same direction by the two-loop recursion, for one problem.

    Its cost is linear in the memory instead of quadratic: J. Nocedal, Mathematics of Computation
    35 (1980), page 779.

    Parameters
    ----------
    pairs : sequence of tuple
        Steps and gradient changes, each pair with the reciprocal of its inner product, the newest
        last.
    scale : number
        The factor of the initial identity matrix.
    gradient : array
        The gradient.
    dot : callable
        The inner product of two vectors.
    plus : callable
        Returns a vector plus a multiple of another, given as vector, multiple, other.
    """
    way, shares = -gradient, []
    for step, change, curvature in reversed(pairs):
        shares.append(dot(step, way) * curvature)
        way = plus(way, -shares[-1], change)
    way = way * scale
    for (step, change, curvature), share in zip(pairs, reversed(shares), strict=True):
        way = plus(way, share - dot(change, way) * curvature, step)
    return way
