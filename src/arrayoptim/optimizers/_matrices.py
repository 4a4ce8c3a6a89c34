"""The base and the linear algebra of optimizers that work on whole matrices.

The functions take arrays ``[..., rows, columns]`` of any library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from math import prod
from typing import Any, ClassVar

from .._typing import Array, Namespace, Scalar
from ..arrays.libraries import backend_of
from ..config.hyper import either, hyper
from ..config.typed import Whole
from ..engines.host import on_gpu
from ..optimizer import Optimizer
from ..rules.rule import Rule, Shape, Side

__all__ = [
    "MatrixOptimizer",
    "PreconditionedOptimizer",
    "by_blocks",
    "due",
    "eigenvectors",
    "euclidean",
    "gathered",
    "identity",
    "lacking",
    "oriented",
    "orthogonalized",
    "orthonormal",
    "root_mean_square",
    "sides",
    "transposed",
    "turned",
    "when",
]


class MatrixOptimizer(Optimizer):
    """An optimizer with one rule for matrices and another for vectors and scalars."""

    outputs: str = hyper(
        default="first",
        choices=("first", "last"),
        kw_only=True,
        doc="Which axis holds the outputs of a layer; the others are merged.",
    )

    rest: ClassVar[Rule]
    """The rule of parameters with fewer than two axes."""

    def rule_for(self, path: str, shape: tuple[int, ...]) -> Rule:
        """Return the rule of one parameter: `rest` unless it is a matrix."""
        return self.rule if len(shape) > 1 else self.rest


class PreconditionedOptimizer(MatrixOptimizer):
    """An optimizer that preconditions matrices on both sides, with periodically updated factors."""

    max_precondition_dim: Whole = hyper(
        default=10000,
        interval="[1, inf)",
        integer=True,
        static=True,
        kw_only=True,
        doc="Longest side that is multiplied; a longer one is not.",
    )

    def rule_for(self, path: str, shape: tuple[int, ...]) -> Rule:
        """Return the rule of a parameter: `rest` unless it is a matrix with a short enough side."""
        rule = super().rule_for(path, shape)
        if rule is self.rest or min(rule.matrix(shape)) <= self.max_precondition_dim:
            return rule
        return self.rest


def sides(rows: int, columns: int, longest: int) -> tuple[Shape, Shape]:
    """Return the shapes of the factors of rows and columns: empty for sides that are longer."""
    n, k = (size if size <= longest else 0 for size in (rows, columns))
    return (n, n), (k, k)


def due(it: Scalar, frequency: Scalar, xp: Namespace) -> Scalar:
    """Return 1 at every step whose number, from 0, is a multiple of the frequency, else 0."""
    return either(it % frequency == 0, 1.0, 0.0, xp)


def lacking(now: Scalar, q: Array, xp: Namespace) -> Array:
    """Return which matrices to recompute: all if that is due, otherwise those of zeros."""
    missing = xp.sum(xp.abs(q), axis=(-2, -1), keepdims=True) <= 0
    found: Array = xp.where(now > 0, xp.ones_like(missing), missing)
    return found


def identity(n: int, like: Array) -> Array:
    """Return the identity matrix of a size, with the library, dtype and device of `like`."""
    backend = backend_of(like)
    place = backend.counted(n, like)
    return backend.cast(place[:, None] == place[None, :], backend.dtype(like))


def when(
    condition: Array, then: Callable[[], Any], otherwise: Callable[[], Any], like: Array
) -> Any:
    """Return the result of one of two functions, and call only that one.

    Parameters
    ----------
    condition : array
        A 0-d boolean array.
    then, otherwise : callable
        Functions without arguments; both return arrays of the same shapes and dtypes.
    like : array
        Any array of the library, whose own conditional is used when it compiles.

    Returns
    -------
    array or tuple of array
        The result.
    """
    return backend_of(like).when(condition, then, otherwise)


def gathered(s: Array, x: Array, keep: Scalar, new: Scalar, xp: Namespace) -> Array:
    """Update running sums of products of rows; empty for a side that is not preconditioned."""
    return backend_of(s).product(x, transposed(x, xp), new, keep, s) if s.shape[-1] else s


def turned(s: Array, q: Array, xp: Namespace) -> Array:
    """Return the symmetric part of matrices in the basis of orthogonal ones."""
    s = (s + transposed(s, xp)) / 2
    return xp.matmul(transposed(q, xp), xp.matmul(s, q))


def eigenvectors(s: Array, xp: Namespace) -> tuple[Array, Array]:
    """Return eigenvalues and eigenvectors of symmetric matrices.

    Those of a matrix with a nonfinite entry are NaN, where libraries would raise errors in the
    middle of a step. Vectors whose eigenvalues are equal up to rounding have no derivative: they
    are taken not to rotate among each other.
    """

    def value(s: Array) -> tuple[Array, Array]:
        blot = xp.sum(s - s, axis=(-2, -1), keepdims=True)
        values, vectors = xp.linalg.eigh(xp.where(xp.isfinite(s), s, 0))
        return values + blot[..., 0], vectors + blot

    def slope(given: Any, made: Any, moves: Any) -> tuple[Array, Array]:
        values, q = made
        move = turned(moves[0], q, xp)
        apart = values[..., None, :] - values[..., :, None]
        much = xp.abs(apart) > least(values, xp)[..., None]
        return xp.sum(move * xp.eye(move.shape[-1], dtype=move.dtype), axis=-1), xp.matmul(
            q, xp.where(much, move / xp.where(much, apart, 1), 0)
        )

    found: tuple[Array, Array] = backend_of(s).sloped(value, slope)(s)
    return found


def orthonormal(x: Array, xp: Namespace) -> Array:
    """Return the orthogonal factors of the QR decompositions of square matrices.

    A column that depends on previous ones up to rounding has no derivative: its own is taken to be
    the one that keeps it orthogonal to the others.
    """

    def value(x: Array) -> Array:
        q: Array = xp.linalg.qr(x)[0]
        return q

    def slope(given: Any, made: Any, moves: Any) -> Array:
        r, unit = (
            xp.matmul(transposed(made, xp), given[0]),
            xp.eye(made.shape[-1], dtype=made.dtype),
        )
        lengths = xp.sum(r * unit, axis=-1)
        much = (xp.abs(lengths) > least(lengths, xp))[..., None, :]
        r, move = xp.where(much, xp.triu(r), unit), xp.matmul(transposed(made, xp), moves[0])
        move = xp.where(much, move, 0)
        below = xp.tril(
            transposed(xp.linalg.solve(transposed(r, xp), transposed(move, xp)), xp), k=-1
        )
        return xp.matmul(made, below - transposed(below, xp))

    found: Array = backend_of(x).sloped(value, slope)(x)
    return found


def least(x: Array, xp: Namespace) -> Array:
    """Return thresholds below which numbers along the last axis are 0 up to rounding."""
    kind = xp.finfo(x.dtype)
    top = xp.max(xp.abs(x), axis=-1, keepdims=True)
    return xp.maximum(x.shape[-1] * kind.eps * top, xp.ones_like(top) * (64 * kind.smallest_normal))


@cache
def oriented(rule: Rule, outputs: Side) -> Rule:
    """Return a rule for arrays of more than two axes, oriented by the axis of the outputs."""
    return rule if outputs == rule.outputs else replace(rule, outputs=outputs)


def transposed(x: Array, xp: Namespace) -> Array:
    """Swap the last two axes."""
    return xp.matrix_transpose(x)


def root_mean_square(x: Array, xp: Namespace, axes: int = 2) -> Array:
    """Return the root mean square over the last axes, which are kept with length 1."""
    return xp.sqrt(xp.mean(x * x, axis=tuple(range(-axes, 0)), keepdims=True))


def by_blocks(
    function: Callable[[list[Array]], Sequence[Array]],
    given: Sequence[Array],
    sizes: tuple[int, ...],
    axis: int,
    xp: Namespace,
) -> Sequence[Array]:
    """Apply a function to the blocks of matrices as if they were separate matrices.

    Parameters
    ----------
    function : callable
        Maps a list of matrices to others of the same shapes.
    given : sequence of array
        Matrices, all with blocks of these sizes.
    sizes : tuple of int
        The sizes of the blocks along the axis; empty for a single block.
    axis : {-2, -1}
        The axis to split.
    xp : module
        Array functions.
    """
    if not sizes:
        return function(list(given))
    blocks = []
    for x in given:
        first = 0
        for size in sizes:
            place = slice(first, first := first + size)
            block = x[..., place, :] if axis == -2 else x[..., place]
            # A contiguous copy, so that sums have the same order as for a separate matrix.
            blocks.append(backend_of(x).copy(block))
    found, n = function(blocks), len(sizes)
    return [xp.concat(found[k : k + n], axis=axis) for k in range(0, len(found), n)]


def orthogonalized(
    given: Sequence[Array],
    eps: Scalar,
    factors: Sequence[tuple[Any, Any, Any]],
    xp: Namespace,
    dtype: str = "compute",
) -> list[Array]:
    """Bring all singular values near 1 with a sequence of polynomials of degree five.

    Parameters
    ----------
    given : sequence of array
        Matrices, or stacks of them. On a GPU those whose shorter sides are equal are multiplied
        together, with zeros appended to the longer ones, as launches cost more than products.
    eps : scalar
        Added to the Euclidean norm, by which a matrix is divided first.
    factors : sequence of tuple of scalar
        For each iteration, the polynomial's coefficients of ``x``, ``x**3`` and ``x**5``.
    xp : module
        Array functions.
    dtype : {"compute", "bfloat16"}
        Dtype of the iterations. 16-bit numbers are too coarse to add `eps`, which is the minimum of
        the denominator there.

    Returns
    -------
    list of array
        For each an approximation of ``U V'``, where ``x = U S V'``.
    """
    tall = [x.shape[-2] > x.shape[-1] for x in given]
    # Libraries may round products of single matrices and of stacks differently.
    wide = [
        transposed(y, xp) if high else y
        for x, high in zip(given, tall, strict=True)
        for y in [x if len(x.shape) == 3 else xp.reshape(x, (prod(x.shape[:-2]), *x.shape[-2:]))]
    ]
    found = list(wide)
    for places in alike(wide):
        rows = [wide[k] for k in places]
        y = iterated(side_by_side(rows, xp), eps, factors, xp, dtype)
        start = 0
        for k, x in zip(places, rows, strict=True):
            stop = start + x.shape[0]
            found[k] = y if y.shape == x.shape else y[start:stop, :, : x.shape[-1]]
            start = stop
    return [
        z if z.shape == x.shape else xp.reshape(z, x.shape)
        for x, y, high in zip(given, found, tall, strict=True)
        for z in [transposed(y, xp) if high else y]
    ]


def alike(wide: Sequence[Array]) -> Iterable[Sequence[int]]:
    """Return which stacks of matrices to multiply together: on a GPU those of as many rows."""
    if not wide or not on_gpu(wide[0]):
        return [[k] for k in range(len(wide))]
    groups: dict[int, list[int]] = {}
    for k, x in enumerate(wide):
        groups.setdefault(x.shape[-2], []).append(k)
    return groups.values()


def side_by_side(stacks: Sequence[Array], xp: Namespace) -> Array:
    """Return stacks of matrices as one, with zeros appended to rows that are shorter."""
    if len(stacks) == 1:
        return stacks[0]
    longest = max(x.shape[-1] for x in stacks)
    made = []
    for x in stacks:
        lacking = (*x.shape[:-1], longest - x.shape[-1])
        zeros = [backend_of(x).zeros(x, backend_of(x).dtype(x), lacking)] if lacking[-1] else []
        made.append(xp.concat([x, *zeros], axis=-1) if zeros else x)
    return xp.concat(made, axis=0)


def iterated(
    x: Array, eps: Scalar, factors: Sequence[tuple[Any, Any, Any]], xp: Namespace, dtype: str
) -> Array:
    """Return a stack of matrices, not higher than wide, after the iterations."""
    backend, coarse = backend_of(x), dtype == "bfloat16"
    kind = backend.dtype(x)

    def single(number: Any) -> Any:
        return number if isinstance(number, float) else backend.cast(number, "float32")

    def product(*operands: Any) -> Array:
        found = backend.product(*operands)
        return backend.rounded(found) if coarse else found

    if coarse:
        x = backend.cast(backend.rounded(x), "float32")
        norm = backend.cast(backend.rounded(euclidean(x, xp)), "float32")
        least = xp.zeros_like(norm) + single(eps)
        x = backend.rounded(x / xp.maximum(norm, least))
        factors = [(single(a), single(b), single(c)) for a, b, c in factors]
    else:
        x = x / (euclidean(x, xp) + eps)
    for a, b, c in factors:
        s = product(x, transposed(x, xp))
        x = product(product(s, s, c, b, s), x, None, a, x)
    return backend.cast(x, kind)


def euclidean(x: Array, xp: Namespace, axes: tuple[int, ...] = (-2, -1)) -> Array:
    """Return Euclidean norms along axes, by default of matrices, which are kept."""
    return xp.sqrt(xp.sum(x * x, axis=axes, keepdims=True))
