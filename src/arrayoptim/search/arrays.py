"""The operations of a search on arrays, of any library with the array API standard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._typing import Array, Namespace
from ..arrays.backend import Backend
from .state_layout import CHANGES, CURVED, LOW, MIXED, STEPS
from .vocabulary import Batch, Plain

State = dict[int, Any]
"""The state of all problems, by the indices in `state_layout`: numbers, and arrays whose last axes
are those of one problem."""


class _Vectors(Plain):
    """Operations that read and write the state."""

    xp: Namespace

    def get(self, s: State, name: int) -> Any:
        """Return a number."""
        return s[name]

    def put(self, s: State, name: int, value: Any) -> None:
        """Write a number."""
        s[name] = value

    def write(self, s: State, name: int, value: Any, where: Any) -> None:
        """Write a number where a condition holds."""
        if not self.nowhere(where):
            s[name] = self.where(where, value, s[name])

    def boxed(self, s: State) -> bool:
        """Return whether there are bounds."""
        return LOW in s

    def memory(self, s: State) -> int:
        """Return the maximum number of pairs."""
        return int(s[STEPS].shape[-2])

    def each(self, s: State, target: int, function: Callable[..., Array], *given: Any) -> None:
        """Write an elementwise function of vectors and of a number, the last argument."""
        vectors = (s[name] for name in given[:-1])
        s[target] = function(self.xp, *vectors, self.column(given[-1]))

    each2 = each3 = each4 = each5 = few4 = each

    def copy(self, s: State, target: int, source: int) -> None:
        """Write a vector."""
        s[target] = s[source]

    def take(self, s: State, target: int, source: int, where: Any) -> None:
        """Write a vector where a condition holds."""
        if not self.nowhere(where):
            s[target] = self.choose(where, s[source], s[target])

    def inner(self, s: State, one: int, other: int) -> Any:
        """Return the inner product of two vectors."""
        found = self.xp.matmul(s[one][..., None, :], s[other][..., None])
        return self.number(found[..., 0, 0])

    def largest(self, s: State, name: int) -> Any:
        """Return the largest magnitude of an entry."""
        return self.number(self.xp.max(self.xp.abs(s[name]), axis=-1))

    def total(self, s: State, name: int) -> Any:
        """Return the sum of magnitudes."""
        return self.number(self.xp.sum(self.xp.abs(s[name]), axis=-1))

    def shift(self, s: State, rows: int, new: int, where: Any) -> None:
        """Append a row and drop the oldest one, where a condition holds."""
        if not self.nowhere(where):
            shifted = self.xp.concat((s[rows][..., 1:, :], s[new][..., None, :]), axis=-2)
            s[rows] = self.choose(where, shifted, s[rows])

    def border(self, s: State, square: int, new: int, where: Any) -> None:
        """Append a row and column to a symmetric matrix, and drop the oldest."""
        if not self.nowhere(where):
            kept, column = s[square][..., 1:, 1:], s[new][..., None]
            above = self.xp.concat((kept, column[..., :-1, :]), axis=-1)
            whole = self.xp.concat((above, s[new][..., None, :]), axis=-2)
            s[square] = self.choose(where, whole, s[square])

    def forget(self, s: State, where: Any) -> None:
        """Zero all rows and their products where a condition holds."""
        for name in (STEPS, CHANGES, MIXED, CURVED):
            s[name] = self.choose(where, self.xp.zeros_like(s[name]), s[name])

    def product(self, s: State, target: int, rows: int, vector: int) -> None:
        """Write the inner products of rows with a vector."""
        s[target] = self.xp.matmul(s[rows], s[vector][..., None])[..., 0]

    multiply = product

    def combine(self, s: State, target: int, rows: int, shares: int) -> None:
        """Write a linear combination of rows."""
        s[target] = self.xp.matmul(s[shares][..., None, :], s[rows])[..., 0, :]

    def triangle(self, s: State, upper: int, diagonal: int, square: int) -> None:
        """Write the upper triangle of a matrix, with diagonal zeros set to 1, and the diagonal."""
        whole, xp = s[square], self.xp
        eye = xp.tril(xp.triu(xp.ones_like(whole)))
        s[diagonal] = xp.sum(whole * eye, axis=-1)
        missing = xp.astype(s[diagonal] == 0, whole.dtype)
        s[upper] = xp.triu(whole) + eye * missing[..., None, :]

    def solve(self, s: State, target: int, upper: int, right: int) -> None:
        """Write the solution of a triangular system."""
        s[target] = self.xp.linalg.solve(s[upper], s[right][..., None])[..., 0]

    def solve_turned(self, s: State, target: int, upper: int, right: int) -> None:
        """Write the solution of the transposed system."""
        lower = self.xp.matrix_transpose(s[upper])
        s[target] = self.xp.linalg.solve(lower, s[right][..., None])[..., 0]


class Single(_Vectors):
    """One problem, with Python numbers."""

    def __init__(self, xp: Namespace) -> None:
        self.xp = xp


class Several(Batch, _Vectors):
    """Several problems, or a compiled one."""

    def __init__(self, backend: Backend, batch: tuple[int, ...], dtype: str, like: Array) -> None:
        super().__init__(backend, batch, dtype, like)
        self.xp = backend.xp
