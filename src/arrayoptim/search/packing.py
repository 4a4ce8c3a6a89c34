"""Trees of parameters as vectors: a single one, or one per problem of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from math import prod
from typing import Any

from .._typing import Array, Tree
from ..arrays.backend import COMPUTE, Backend
from ..arrays.libraries import backend_of
from ..arrays.trees import Structure, flatten, named
from ..step.checks import Leaf


@dataclass(frozen=True)
class Packing:
    """The layout of leaves in vectors.

    Attributes
    ----------
    backend : Backend
        The library of all leaves.
    batch : tuple of int
        The shape of the batch: empty, or the number of problems.
    dtype : str
        The dtype of the vectors: the widest compute dtype of the leaves.
    shapes : tuple of (shape or None)
        The shapes of the leaves.
    """

    backend: Backend
    batch: tuple[int, ...]
    dtype: str
    shapes: tuple[tuple[int, ...] | None, ...]

    def vector(self, arrays: Sequence[Array | None]) -> Array:
        """Pack leaves into new vectors."""
        xp = self.backend.xp
        shape = (*self.batch, -1) if self.size else (*self.batch, 0)
        parts = [
            xp.reshape(self.backend.cast(x, self.dtype), shape) for x in arrays if x is not None
        ]
        return xp.concat(parts, axis=-1) if len(parts) > 1 else self.backend.copy(parts[0])

    def into(self, vector: Array, arrays: Sequence[Array | None]) -> None:
        """Pack leaves into existing vectors."""
        for (start, stop), x in zip(self._places, arrays, strict=True):
            if x is not None:
                part = self.backend.xp.reshape(x, (*self.batch, stop - start))
                self.backend.store(vector[..., start:stop], part)

    @property
    def size(self) -> int:
        """Number of entries of a vector."""
        depth = len(self.batch)
        return sum(prod(shape[depth:]) for shape in self.shapes if shape is not None)

    @cached_property
    def _places(self) -> tuple[tuple[int, int], ...]:
        """The range of each leaf's entries."""
        counts = (0 if s is None else prod(s[len(self.batch) :]) for s in self.shapes)
        ends = tuple(accumulate(counts, initial=0))
        return tuple(pairwise(ends))

    def _part(self, vector: Array, place: int) -> Array:
        start, stop = self._places[place]
        return self.backend.xp.reshape(vector[..., start:stop], self.shapes[place])

    def parts(self, vector: Array, like: Sequence[Array | None]) -> list[Array | None]:
        """Unpack vectors into leaves, with the dtypes of `like`."""
        backend = self.backend
        return [
            None if x is None else backend.cast(self._part(vector, k), backend.dtype(x))
            for k, x in enumerate(like)
        ]

    def written(self, vector: Array, leaves: Sequence[Array | None]) -> list[Array | None]:
        """Unpack vectors into writeable leaves, and return these or new arrays."""
        backend, new = self.backend, list(leaves)
        for k, x in enumerate(leaves):
            if x is None:
                continue
            part = self._part(vector, k)
            if backend.writable(x):
                backend.store(x, part)
            else:
                part = backend.cast(part, backend.dtype(x))
                new[k] = backend.copy(part) if backend.mutable else part
        return new

    def limits(self, bound: Any, leaves: Sequence[Array | None], structure: Structure) -> Array:
        """Return a number, or a tree of bounds, as vectors."""
        if isinstance(bound, int | float):
            shape = *self.batch, self.size
            return self.backend.filled(first(leaves), self.dtype, shape, float(bound))
        found, other = flatten(bound, "bounds")
        shapes = tuple(None if x is None else tuple(x.shape) for x in found)
        if other.paths != structure.paths or shapes != self.shapes:
            raise ValueError(
                f"bounds: found arrays of {shapes} at {list(other.paths)}, wanted a number, or "
                f"{self.shapes} at {list(structure.paths)} as the parameters have"
            )
        there = [
            None if x is None else self.backend.from_host(backend_of(x).to_host(x), like)
            for x, like in zip(found, leaves, strict=True)
        ]
        return self.vector(there)


def first(leaves: Sequence[Array | None]) -> Array:
    """Return the first leaf that is not None."""
    return next(x for x in leaves if x is not None)


def packing(
    leaves: Sequence[Array | None],
    found: Sequence[Leaf | None],
    structure: Structure,
    batched: bool,
) -> Packing:
    """Return the packing of leaves.

    Raises
    ------
    TypeError
        If they belong to several libraries, or are complex.
    ValueError
        If there is none, they are on several devices, or their batch sizes differ.
    """
    present = [x for x in leaves if x is not None]
    if not present:
        raise ValueError("LBFGS: found no parameter, wanted at least one")
    backend = backend_of(present[0])
    libraries = sorted({backend_of(x).name for x in present})
    if len(libraries) > 1:
        raise TypeError(f"LBFGS: found arrays of {', '.join(libraries)}, wanted one library")
    if not backend.traced(present[0]):
        devices = {str(backend.device(x)) for x in present}
        if len(devices) > 1:
            raise ValueError(
                f"LBFGS: found arrays on {', '.join(sorted(devices))}, wanted one device"
            )
    for path, leaf in zip(structure.paths, found, strict=True):
        if leaf is not None and leaf.dtype.startswith("complex"):
            raise TypeError(
                f"LBFGS: {named(path)} is {leaf.dtype}, wanted real parameters; give real and "
                "imaginary parts as two arrays"
            )
    shapes = tuple(None if leaf is None else leaf.shape for leaf in found)
    counts = {shape[:1] for shape in shapes if shape is not None}
    if batched and (len(counts) > 1 or () in counts):
        raise ValueError(
            f"LBFGS(batched=True): found shapes {[s for s in shapes if s is not None]}, wanted one "
            "leading axis of problems, of the same length, in all of them"
        )
    kinds = {COMPUTE[leaf.dtype] for leaf in found if leaf is not None}
    wide = "float64" if "float64" in kinds else "float32"
    return Packing(backend, counts.pop() if batched else (), wide, shapes)


def pair_of(
    loss: Any, params: Tree
) -> tuple[Any, list[Array | None], Sequence[Array | None], Structure]:
    """Evaluate the loss of a batch, with results as from `value_and_gradients`."""
    given = loss(params)
    if not (isinstance(given, tuple) and len(given) == 2):
        raise TypeError(
            "the loss of a batch gives the pair (values, gradients), with a value for each "
            f"problem; found {type(given).__qualname__}"
        )
    gradients, structure = flatten(given[1], "gradients")
    return given[0], gradients, (), structure
