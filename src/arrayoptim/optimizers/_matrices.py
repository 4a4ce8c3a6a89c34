"""What the optimizers of whole matrices have in common.

The functions take arrays ``[..., rows, columns]`` of any library.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

from .._hyper import hyper
from .._rule import Rule, Side
from .._typing import Array, Namespace, Scalar
from ..optimizer import Optimizer

__all__ = ["MatrixOptimizer", "oriented", "orthogonalized", "root_mean_square", "transposed"]


class MatrixOptimizer(Optimizer):
    """An optimizer with one rule for matrices and another one for vectors and numbers."""

    outputs: str = hyper(
        default="first",
        choices=("first", "last"),
        kw_only=True,
        doc="Which axis counts the outputs of a layer; the others make one axis of a matrix.",
    )

    rest: ClassVar[Rule]
    """The rule of parameters with fewer than two axes."""

    def rule_for(self, path: str, shape: tuple[int, ...]) -> Rule:
        """Give the rule of one parameter: `rest` where it is no matrix."""
        return self.rule if len(shape) > 1 else self.rest


@cache
def oriented(rule: Rule, outputs: Side) -> Rule:
    """Give a rule that sees arrays of more than two axes in one way or the other."""
    return rule if outputs == rule.outputs else replace(rule, outputs=outputs)


def transposed(x: Array, xp: Namespace) -> Array:
    """Exchange the last two axes."""
    return xp.matrix_transpose(x)


def root_mean_square(x: Array, xp: Namespace) -> Array:
    """Give the root mean square of each matrix, with two axes of one entry."""
    return xp.sqrt(xp.mean(x * x, axis=(-2, -1), keepdims=True))


def orthogonalized(
    x: Array, steps: int, eps: Scalar, factors: tuple[Any, Any, Any], xp: Namespace
) -> Array:
    """Bring all singular values near 1, by a polynomial of degree five that is iterated.

    Parameters
    ----------
    x : array
        Matrices.
    steps : int
        Number of iterations.
    eps : scalar
        Added to the Euclidean norm, which brings the singular values to 1 at most first.
    factors : tuple of scalar
        The polynomial's factors of ``x``, ``x**3`` and ``x**5``.
    xp : module
        Array functions.

    Returns
    -------
    array
        With ``x = U S V'``, what is near ``U V'``.
    """
    a, b, c = factors
    tall = x.shape[-2] > x.shape[-1]
    x = transposed(x, xp) if tall else x
    x = x / (xp.sqrt(xp.sum(x * x, axis=(-2, -1), keepdims=True)) + eps)
    for _ in range(steps):
        s = xp.matmul(x, transposed(x, xp))
        x = a * x + xp.matmul(b * s + c * xp.matmul(s, s), x)
    return transposed(x, xp) if tall else x
