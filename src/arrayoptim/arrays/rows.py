"""Row-sparse gradients, such as those of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from .._typing import Array
from .libraries import Backend, backend_of, is_array, type_name
from .per_model import Pieces

__all__ = ["Rows", "as_rows", "dense", "is_sparse", "magnitudes", "places_of_rows", "stored"]


class Rows:
    """A row-sparse gradient: zero except in some rows.

    A leaf in a tree of gradients, in place of an array. Rows with equal indices are summed.

    Parameters
    ----------
    indices : array of int
        The index of each row, from 0. They count along the axes of `shape` that `rows` lacks; if
        there are several, in C order.
    rows : array
        The rows, along the first axis; of the same library and on the same device.
    shape : sequence of int
        The shape of the parameter.

    Attributes
    ----------
    indices, rows : array
        As passed.
    shape : tuple of int
        The shape of the dense gradient.

    Raises
    ------
    TypeError
        If either is not an array of a supported library, or the indices are not integers.
    ValueError
        If they do not fit each other.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> table = np.ones((4, 2))
    >>> gradient = ao.Rows(np.array([2, 0, 2]), np.ones((3, 2)), table.shape)
    >>> ao.SGD(lr=0.25).apply(gradient, table)
    array([[0.75, 0.75],
           [1.  , 1.  ],
           [0.5 , 0.5 ],
           [1.  , 1.  ]])
    """

    __slots__ = ("indices", "rows", "shape")

    def __init__(self, indices: Array, rows: Array, shape: Sequence[int]) -> None:
        for name, x in (("indices", indices), ("rows", rows)):
            if not is_array(x) or not backend_of(x).dense(x):
                raise TypeError(f"Rows: found {type_name(type(x))} for {name}, wanted an array")
        self.indices, self.rows, self.shape = indices, rows, tuple(int(n) for n in shape)
        backend, kind = backend_of(rows), backend_of(indices).dtype(indices)
        if "int" not in kind:
            raise TypeError(f"Rows: found indices of {kind}, wanted integers")
        if backend_of(indices) is not backend:
            raise ValueError(
                f"Rows: found indices of {backend_of(indices).name} and rows of {backend.name}; "
                "wanted arrays of one library"
            )
        lead = len(self.shape) - len(rows.shape) + 1
        fits = tuple(rows.shape[1:]) == self.shape[lead:] if lead > 0 else False
        if not fits or tuple(indices.shape) != tuple(rows.shape[:1]):
            raise ValueError(
                f"Rows: found indices of shape {tuple(indices.shape)} and rows of shape "
                f"{tuple(rows.shape)} for a parameter of shape {self.shape}; wanted one index for "
                "each row, and rows of its last axes"
            )

    @property
    def dtype(self) -> Any:
        """The dtype of the rows."""
        return self.rows.dtype

    @property
    def count(self) -> int:
        """The number of rows of the dense gradient."""
        return prod(self.shape[: self.lead])

    @property
    def lead(self) -> int:
        """The number of leading axes that indices count along."""
        return len(self.shape) - len(self.rows.shape) + 1

    @property
    def width(self) -> int:
        """The number of entries in a row."""
        return prod(self.shape[self.lead :])

    @property
    def backend(self) -> Backend:
        """The library of the rows."""
        return backend_of(self.rows)

    def __repr__(self) -> str:
        """Return a summary with the number of rows, shape and library."""
        return f"<Rows: {self.rows.shape[0]} of shape {self.shape}, {self.backend.name}>"

    def mapped(self, function: Callable[[Array], Array]) -> Rows:
        """Return the same rows with other values."""
        return Rows(self.indices, function(self.rows), self.shape)

    def summed(self) -> Rows:
        """Return unique rows in ascending order of indices.

        Under a compiler the number of rows may be unchanged; unused entries then have an index out
        of range.

        Raises
        ------
        ValueError
            If an index is out of range.
        """
        backend, rows = self.backend, self.rows
        with backend.guard(rows):
            if backend.compiles:
                self._require_readable_range()
            indices, rows = backend.summed(self.indices, rows, self.count)
            new = Rows(indices, rows, self.shape)
            if not backend.compiles and rows.shape[0]:
                _require_range(int(indices[0]), int(indices[-1]), self.count)
        return new

    def _require_readable_range(self) -> None:
        """Refuse indices out of range, for libraries that compile, if the values are known."""
        backend = self.backend
        if not backend.traced(self.indices) and self.indices.shape[0]:
            found = backend.to_host(self.indices)
            # JAX pads with the largest index of the dtype.
            found = found[found != np.iinfo(found.dtype).max]
            _require_range(found.min(initial=0), found.max(initial=0), self.count)

    def places(self) -> tuple[Array, ...]:
        """Return the indices along each leading axis."""
        if self.lead == 1:
            return (self.indices,)
        found, rest = [], self.indices
        for length in reversed(self.shape[1 : self.lead]):
            found.append(rest % length)
            rest = rest // length
        return (rest, *reversed(found))

    def of(self, x: Array) -> Array:
        """Return a copy of these rows of an array of this shape."""
        return backend_of(x).rows_at(x, self.places())

    def put(self, x: Array, rows: Array) -> Array:
        """Write rows into an array of this shape.

        Returns
        -------
        array
            The array itself if it can be written; otherwise a new one.
        """
        return backend_of(x).put_rows(x, self.places(), rows)

    def dense(self) -> Array:
        """Return the dense gradient as an array.

        Raises
        ------
        ValueError
            If an index is out of range.
        """
        new, backend = self.summed(), self.backend
        with backend.guard(self.rows):
            return new.put(backend.zeros(new.rows, backend.dtype(new.rows), self.shape), new.rows)


def _require_range(first: int, last: int, count: int) -> None:
    if first < 0 or last >= max(count, 1):
        wrong = first if first < 0 else last
        raise ValueError(f"found row {wrong} of {count}; wanted indices in [0, {count})")


def as_rows(g: Any, like: Array | None = None) -> Any:
    """Return a library's sparse array as `Rows`; any other gradient unchanged.

    Sparse layouts without rows are unchanged too, to be refused later. The shape is that of the
    parameter if the sparse array does not have one.
    """
    if g is None or type(g) is Rows:
        return g
    backend = backend_of(g)
    parts = None if backend.dense(g) else backend.sparse(g)
    if parts is None:
        return g
    indices, rows, shape = parts
    if shape is None:
        if like is None:
            raise ValueError("found a sparse gradient without a shape; set its dense_shape")
        shape = tuple(like.shape)
    return Rows(indices, rows, shape)


def is_sparse(g: Any) -> bool:
    """Whether a gradient is `Rows` or a library's sparse array."""
    return type(g) is Rows or (g is not None and not backend_of(g).dense(g))


def dense(gradients: Sequence[Any], leaves: Sequence[Array | None]) -> list[Any]:
    """Return gradients of parameters as dense arrays."""
    found = map(as_rows, gradients, leaves)
    return [g.dense() if type(g) is Rows else g for g in found]


def magnitudes(gradients: Sequence[Any]) -> list[Any]:
    """Return arrays with the norms of the gradients: for sparse ones, those that they store."""
    found = map(as_rows, gradients)
    return [g.summed().rows if type(g) is Rows else g for g in found]


def places_of_rows(gradients: Sequence[Any]) -> frozenset[int]:
    """Return the indices of the gradients that are `Rows`."""
    return frozenset(i for i, g in enumerate(gradients) if type(g) is Rows)


def stored(gradients: Sequence[Any]) -> Sequence[Any]:
    """Return arrays with the norms of gradients whose rows are already unique."""
    found = gradients.wholes if type(gradients) is Pieces else gradients
    if Rows not in set(map(type, found)):
        return gradients
    return [g.rows if type(g) is Rows else g for g in gradients]
