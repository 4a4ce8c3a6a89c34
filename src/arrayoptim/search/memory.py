"""What a search remembers of the curvature, and the direction that follows.

The inverse Hessian is that of limited-memory BFGS in compact form: R. Byrd, J. Nocedal and
R. Schnabel, Mathematical Programming 63 (1994), equation 3.1. Steps and changes of the gradient
are the rows of two matrices, the newest last; rows of zeros stand for pairs that are not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .._typing import Array, Namespace


def product(xp: Namespace, rows: Array, vector: Array) -> Array:
    """Return the products of rows with a vector, problem by problem."""
    return xp.matmul(rows, vector[..., None])[..., 0]


def inner(xp: Namespace, one: Array, other: Array) -> Array:
    """Return the inner products of vectors, a 0-d array for a single problem."""
    return xp.matmul(one[..., None, :], other[..., None])[..., 0, 0]


def remembered(ns: Any, xp: Namespace, rows: Array, new: Array, kept: Any) -> Array:
    """Return the rows with a new one in place of the oldest, where it is kept."""
    shifted = xp.concat((rows[..., 1:, :], new[..., None, :]), axis=-2)
    return ns.choose(kept, shifted, rows)


def direction(xp: Namespace, steps: Array, changes: Array, scale: Any, gradient: Array) -> Array:
    """Return the inverse Hessian's product with a gradient, negated.

    Parameters
    ----------
    xp : namespace
        The arrays' library.
    steps, changes : array of shape (..., memory, size)
        Differences of points and of gradients.
    scale : number or array of shape (..., 1)
        The multiple of the identity that the matrix begins with.
    gradient : array of shape (..., size)
        The gradient.

    Returns
    -------
    array of shape (..., size)
        The direction.
    """
    turned = xp.matrix_transpose(changes)
    mixed = xp.matmul(steps, turned)
    eye = xp.tril(xp.triu(xp.ones_like(mixed)))
    diagonal = xp.sum(mixed * eye, axis=-1)
    missing = xp.astype(diagonal == 0, mixed.dtype)
    upper = xp.triu(mixed) + eye * missing[..., None, :]
    ahead = product(xp, steps, gradient)
    p = xp.linalg.solve(upper, ahead[..., None])[..., 0]
    curved = product(xp, xp.matmul(changes, turned), p) - product(xp, changes, gradient)
    right = diagonal * p + scale * curved
    w = xp.linalg.solve(xp.matrix_transpose(upper), right[..., None])[..., 0]
    across = product(xp, turned, p)
    along = product(xp, xp.matrix_transpose(steps), w)
    return scale * (across - gradient) - along


def two_loops(
    pairs: Sequence[tuple[Any, Any, Any]],
    scale: Any,
    gradient: Any,
    dot: Callable[[Any, Any], Any],
    plus: Callable[[Any, Any, Any], Any],
) -> Any:
    """Return the same direction by recursion, for one problem.

    The work grows with the memory and not with its square: J. Nocedal, Mathematics of Computation
    35 (1980), page 779.

    Parameters
    ----------
    pairs : sequence of tuple
        Steps and changes of the gradient, each pair with one over its inner product, the newest
        last.
    scale : number
        The multiple of the identity that the matrix begins with.
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
