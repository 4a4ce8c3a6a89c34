"""The interface to an array library: the array API standard, and what the standard lacks.

An optimizer also needs to know whether an array can be written, where its memory is, the 16-bit
dtypes, and complex numbers as pairs of reals.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from .._typing import Array, Namespace, Scalar

CONTAINERS = "arrayoptim"
"""The namespace of optree's registry for this library's own containers."""

COMPUTE = {
    "float16": "float32",
    "bfloat16": "float32",
    "float32": "float32",
    "float64": "float64",
    "complex64": "float32",
    "complex128": "float64",
}
"""The compute dtype of a parameter, by the parameter's dtype."""

COMPLEX = {"complex64", "complex128"}
HALF = {"float16", "bfloat16"}

FLOATS = ("float16", "bfloat16", "float32", "float64")
"""The real dtypes that can be stepped."""

ITEMSIZE = {**dict(zip(FLOATS, (2, 2, 4, 8), strict=True)), "uint8": 1, "int16": 2}
"""Item sizes of the dtypes of parameters and slots, including 8-bit codes and their exponents."""

REALS = {"complex64": "float32", "complex128": "float64"}


def reals(dtype: str) -> str:
    """Return the dtype of the real numbers in memory, two for each complex number."""
    return REALS.get(dtype, dtype)


def itemsize(dtype: str) -> int:
    """Return the item size in bytes of a real or complex dtype."""
    return ITEMSIZE[reals(dtype)] * (2 if dtype in REALS else 1)


def numpy_dtype(name: str) -> Any:
    """Return the NumPy dtype with a name, including bfloat16."""
    if name != "bfloat16":
        return name
    try:
        import ml_dtypes
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "bfloat16 in NumPy needs the ml_dtypes package (pip install ml_dtypes)"
        ) from None
    return ml_dtypes.bfloat16


class Functions:
    """The functions of a namespace, with some replaced."""

    def __init__(self, own: dict[str, Any], others: Namespace) -> None:
        vars(self).update(own)
        self._others = others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._others, name)


class Backend:
    """An array library that follows the array API standard; subclasses override departures."""

    name = "array API"
    mutable = True
    compiles = False
    sums: str | None = None
    """The dtype in which compiled norms are summed, if the library always has it."""

    @property
    def xp(self) -> Namespace:
        """The library's array API namespace."""
        raise NotImplementedError

    def writable(self, x: Array) -> bool:
        """Whether the array can be updated in place."""
        return self.mutable

    def __init__(self) -> None:
        self._dtypes: dict[Any, str] = {}

    def dtype(self, x: Array) -> str:
        """Name of the array's dtype, such as ``"float32"``."""
        # NumPy takes microseconds to build the name of a dtype.
        kind = x.dtype
        if kind not in self._dtypes:
            self._dtypes[kind] = self.dtype_name(kind)
        return self._dtypes[kind]

    def dtype_name(self, kind: Any) -> str:
        """Name of a dtype."""
        return str(kind.name)

    def device(self, x: Array) -> Any:
        """Return the array's device as a hashable key; None for a tracer."""
        return x.device

    def dense(self, x: Array) -> bool:
        """Whether the array is dense."""
        return True

    def elsewhere(self, x: Array) -> str:
        """Return what supports an array that only looks like this library's; empty if it is one."""
        return ""

    def traced(self, x: Array) -> bool:
        """Whether the array is a tracer, without values."""
        return False

    def cast(self, x: Array, dtype: str) -> Array:
        """Return the array converted to a dtype; the array itself if it already has it."""
        return x.astype(dtype, copy=False)

    def rounded(self, x: Array) -> Array:
        """Return real numbers rounded to bfloat16, in the dtype in which they are multiplied."""
        x = self.cast(x, "float32")
        # Dekker's splitting: the lower 16 of 24 bits cancel.
        large = x * 65537.0
        return large - (large - x)

    def product(
        self, a: Array, b: Array, alpha: Any = None, beta: Any = None, c: Any = None
    ) -> Array:
        """Return ``alpha * a @ b + beta * c``.

        Parameters
        ----------
        a, b : array
            Stacks of matrices.
        alpha, beta : scalar, optional
            Factors.
        c : array, optional
            The addend; none by default.

        Returns
        -------
        array
            The result; of the library's own bfloat16, accumulated in float32 and rounded once.
        """
        found = self.xp.matmul(a, b)
        found = found if alpha is None else alpha * found
        return found if c is None else beta * c + found

    def exactly(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which products of float32 matrices have float32 precision."""
        return contextlib.nullcontext()

    def stacked(self, arrays: Sequence[Array]) -> Array:
        """Return arrays of equal shape as one, along a new first axis.

        If they are the rows of a dense array, in order, the result may be a view of it.
        """
        return self.xp.stack(arrays)

    def scalar(self, value: Scalar, dtype: str, like: Array) -> Scalar:
        """Return a number as a 0-d operand with a dtype."""
        return self.xp.asarray(value, dtype=getattr(self.xp, dtype), device=self.device(like))

    def zeros(self, like: Array, dtype: str, shape: tuple[int, ...] | None = None) -> Array:
        """Return zeros with the given dtype; layout, device and default shape follow `like`."""
        kind = getattr(self.xp, dtype)
        if shape is not None and shape != tuple(like.shape):
            return self.xp.zeros(shape, dtype=kind, device=self.device(like))
        return self.xp.zeros_like(like, dtype=kind)

    def widest(self, x: Array) -> str:
        """Return the widest real dtype that the array's device supports."""
        return "float64"

    def filled(self, like: Array, dtype: str, shape: tuple[int, ...], value: Scalar) -> Array:
        """Return an array filled with a number, otherwise like `zeros`."""
        x, number = self.zeros(like, dtype, shape), self.scalar(value, dtype, like)
        if not self.mutable:
            return x + number
        # An addition could return another memory layout.
        self.store(x, number)
        return x

    def steps(self, x: Array) -> Any:
        """Return the array's strides; None if the library does not expose them."""
        return None

    def spread(self, function: Callable[..., Any], like: Any) -> Callable[..., Any]:
        """Return a function whose results are sharded over devices like some given arrays."""
        return function

    def ordered(self, x: Array, like: Array) -> Array:
        """Return the array in the memory layout of another with equal shape and dtype."""
        steps, wanted = self.steps(x), self.steps(like)
        if steps == wanted or not prod(x.shape):
            return x
        if all(a == b for n, a, b in zip(x.shape, steps, wanted, strict=True) if n > 1):
            return x
        new = self.zeros(like, self.dtype(like))
        self.store(new, x)
        return new

    def sparse(self, x: Array) -> tuple[Array, Array, Any] | None:
        """Return indices, rows and shape of a sparse array, as for `Rows`; None if it cannot.

        Called for arrays that are not `dense`. Some layouts cannot be expressed as rows; the shape
        is None if it is unknown.
        """
        return None

    def summed(self, indices: Array, rows: Array, count: int) -> tuple[Array, Array]:
        """Return unique rows in ascending order of their indices; duplicates are summed.

        Duplicates are summed pairwise at doubling distances, always in the same order. In results
        of static size, unused entries have the index `count`.
        """
        xp, traced = self.xp, self.traced(indices) or self.compiles
        order = xp.argsort(indices, stable=True)
        indices, rows = xp.take(indices, order, axis=0), xp.take(rows, order, axis=0)
        rows = self.cast(rows, "float32") if self.dtype(rows) in HALF else rows
        column, step = (-1, *[1] * (len(rows.shape) - 1)), 1
        while step < indices.shape[0]:
            same = indices[step:] == indices[:-step]
            if not traced and not bool(xp.any(same)):
                break
            earlier = xp.where(xp.reshape(same, column), rows[:-step, ...], 0 * rows[:-step, ...])
            rows = xp.concat([rows[:step, ...], rows[step:, ...] + earlier])
            step *= 2
        if not indices.shape[0]:
            return indices, rows
        last = xp.concat([indices[1:] != indices[:-1], indices[:1] == indices[:1]])
        if traced:
            zero = xp.zeros_like(rows)
            rows = xp.where(xp.reshape(last, column), rows, zero)
            return xp.where(last, indices, xp.full_like(indices, count)), rows
        (kept,) = xp.nonzero(last)
        return xp.take(indices, kept, axis=0), xp.take(rows, kept, axis=0)

    def rows_at(self, x: Array, places: Sequence[Array]) -> Array:
        """Return rows of an array, selected by indices along its first axes."""
        xp, lead = self.xp, len(places)
        flat, at = xp.reshape(x, (prod(x.shape[:lead]), *x.shape[lead:])), places[0]
        for length, more in zip(x.shape[1:lead], places[1:], strict=True):
            at = at * length + more
        return xp.take(flat, at, axis=0)

    def put_rows(self, x: Array, places: Sequence[Array], rows: Array) -> Array:
        """Write unique rows into an array; return a new array if it cannot be written.

        Libraries that compile ignore indices out of range.
        """
        # Not every array API library supports assignment at an integer array.
        xp, lead = self.xp, len(places)
        count, at = prod(x.shape[:lead]), self.to_host(places[0])
        for length, more in zip(x.shape[1:lead], places[1:], strict=True):
            at = at * length + self.to_host(more)
        source = np.full(count, -1, np.int64)
        source[at] = np.arange(len(at))
        found = self.from_host(source, places[0])
        column = (count, *[1] * (len(rows.shape) - 1))
        flat = xp.reshape(x, (count, *x.shape[lead:]))
        if not len(at):
            return x
        new = xp.take(rows, xp.where(found < 0, 0 * found, found), axis=0)
        new = self.cast(new, self.dtype(x))
        new = xp.reshape(xp.where(xp.reshape(found < 0, column), flat, new), x.shape)
        if not self.writable(x):
            return new
        self.store(x, new)
        return x

    def array(self, x: Array) -> Array:
        """Return an array, converting scalars that an operation may have returned."""
        return x

    def store(self, target: Array, value: Array) -> None:
        """Write values into an array, rounded to its dtype."""
        target[...] = value

    def copy(self, x: Array) -> Array:
        """Return a copy of the array; for immutable arrays, possibly the array itself."""
        return self.xp.asarray(x, copy=True)

    def along_first(self, x: Array) -> list[Array]:
        """Return views of the array's subarrays along its first axis."""
        return [x[i, ...] for i in range(x.shape[0])]

    def mapped(self, function: Callable[..., Any]) -> Callable[..., Any] | None:
        """Return a function mapped over the first axes of arrays in trees; None if unsupported."""
        return None

    def to_host(self, x: Array) -> np.ndarray:
        """Return the values as a new NumPy array."""
        return np.array(x)

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        """Return the values as a new array; dtype, memory order and device follow `like`."""
        wanted = value.astype(self.dtype(like))
        return self.xp.asarray(wanted, device=self.device(like), copy=True)

    def counted(self, n: int, like: Array) -> Array:
        """Return the integers from 0 to ``n - 1``; dtype and device follow `like`."""
        there = self.zeros(like, self.dtype(like), (n,))
        return self.from_host(np.arange(n, dtype=np.float64), there)

    def company(self, x: Array) -> tuple[bool, Callable[[int], int]] | None:
        """Return how processes communicate that each hold a shard of the array.

        Returns
        -------
        writes : bool
            Whether this process is the one that writes files.
        tell : callable
            Collective: returns on all processes the number that the writing process passed.
            None in place of both if this process holds the whole array.
        """
        return None

    def wrap(self, value: np.ndarray) -> Array:
        """Return a NumPy array as an array of this library, without a copy; see `host_view`."""
        raise NotImplementedError

    def host_view(self, x: Array) -> np.ndarray | None:
        """Return a NumPy view of the array; None if the host cannot read its memory."""
        return None

    def valued(self, x: Array) -> bool:
        """Whether the array has values, unlike placeholders with only shape and dtype."""
        return True

    def span(self, x: Array) -> np.ndarray | None:
        """Return a NumPy array over the same addresses, which must not be read; None if unknown."""
        return None

    def stretch(self, x: Array) -> tuple[int, int] | None:
        """Return the first address of a dense array and the one after its last.

        None if there are gaps, if it is in another order than C's, or if `span` is quick.
        """
        return None

    def as_real(self, x: Array) -> Array:
        """Return a complex array as reals, with real and imaginary parts along a new last axis."""
        return self.xp.stack((self.xp.real(x), self.xp.imag(x)), axis=-1)

    def as_complex(self, x: Array) -> Array:
        """Return the complex array of which `as_real` made reals."""
        return x[..., 0] + x[..., 1] * 1j

    def when(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        """Call one of two functions and return its result; the other is not run.

        The condition is a bool or 0-d array. In a compiled step, both functions are traced and must
        return arrays, or tuples of arrays, with equal shapes and dtypes.
        """
        return then() if condition else otherwise()

    def fixed(self, x: Array) -> Array:
        """Return an array that automatic differentiation treats as a constant."""
        return x

    def sloped(
        self, function: Callable[..., Any], slope: Callable[[Any, Any, Any], Any]
    ) -> Callable[..., Any]:
        """Return a function of arrays with a custom derivative, if steps are differentiable.

        Parameters
        ----------
        function : callable
            Maps arrays of one dtype to an array or a tuple of arrays.
        slope : callable
            Given the arguments, the results, and tangents of the arguments, returns the tangents
            of the results, linearly.
        """
        return function

    def guard(self, like: Array | None = None) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which a step runs, such as the device of an array."""
        return contextlib.nullcontext()

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, compiled if the library has a compiler for array code."""
        return function


def summed(indices: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return unique rows in ascending order of indices; duplicates are summed one by one."""
    rows = rows.astype(np.float32) if rows.dtype.name in HALF else rows
    if bool((indices[1:] > indices[:-1]).all()):
        return indices, rows
    order = np.argsort(indices, kind="stable")
    indices = indices[order]
    first = np.concatenate([[True], indices[1:] != indices[:-1]])
    starts = np.flatnonzero(first)
    # The first way is faster with many duplicates, the second with few.
    if 2 * len(starts) < len(indices):
        return indices[starts], np.add.reduceat(rows[order], starts, axis=0)
    again = np.flatnonzero(~first)
    new = rows[order[starts]]
    np.add.at(new, np.cumsum(first)[again] - 1, rows[order[again]])
    return indices[starts], new


class _Addresses:
    def __init__(self, interface: dict[str, Any]) -> None:
        self.__array_interface__ = interface


def addresses(
    pointer: int, shape: Sequence[int], strides: Sequence[int], itemsize: int
) -> np.ndarray:
    """Return an array over memory, which must never be read."""
    interface = {
        "version": 3,
        "data": (pointer or 1, True),
        "typestr": f"|V{itemsize}",
        "shape": tuple(shape),
        "strides": tuple(strides),
    }
    return np.asarray(_Addresses(interface))
