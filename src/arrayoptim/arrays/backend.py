"""The interface to an array library: the array API standard, and what it leaves out.

An optimizer also needs to know whether an array may be written, where its memory lies, the 16-bit
types, and complex numbers as pairs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from .._typing import Array, Namespace, Scalar

CONTAINERS = "arrayoptim"
"""The namespace of optree's registry in which this library's own containers are."""

COMPUTE = {
    "float16": "float32",
    "bfloat16": "float32",
    "float32": "float32",
    "float64": "float64",
    "complex64": "float32",
    "complex128": "float64",
}
"""The type in which the arithmetic for a parameter runs, by the parameter's type."""

COMPLEX = {"complex64", "complex128"}
HALF = {"float16", "bfloat16"}

FLOATS = ("float16", "bfloat16", "float32", "float64")
"""The real types that can be stepped."""

ITEMSIZE = {**dict(zip(FLOATS, (2, 2, 4, 8), strict=True)), "uint8": 1, "int16": 2}
"""Bytes of the types that parameters and slots have, 8-bit codes and their exponents included."""

REALS = {"complex64": "float32", "complex128": "float64"}


def reals(dtype: str) -> str:
    """Return the type of the real numbers in memory: a complex number is two."""
    return REALS.get(dtype, dtype)


def itemsize(dtype: str) -> int:
    """Return the bytes of an element of a real or complex type."""
    return ITEMSIZE[reals(dtype)] * (2 if dtype in REALS else 1)


def numpy_dtype(name: str) -> Any:
    """Return NumPy's dtype of that name, bfloat16 included."""
    if name != "bfloat16":
        return name
    try:
        import ml_dtypes
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "NumPy knows bfloat16 through the ml_dtypes package (pip install ml_dtypes)"
        ) from None
    return ml_dtypes.bfloat16


class Functions:
    """The functions of a namespace, some of them in another form."""

    def __init__(self, own: dict[str, Any], others: Namespace) -> None:
        vars(self).update(own)
        self._others = others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._others, name)


class Backend:
    """An array library, by the array API standard; subclasses say where they depart from it."""

    name = "array API"
    mutable = True
    compiles = False
    sums: str | None = None
    """The type in which a compiled norm is summed, where the library always has it."""

    @property
    def xp(self) -> Namespace:
        """The library's array API namespace."""
        raise NotImplementedError

    def writable(self, x: Array) -> bool:
        """Whether an update may be written into the array."""
        return self.mutable

    def __init__(self) -> None:
        self._dtypes: dict[Any, str] = {}

    def dtype(self, x: Array) -> str:
        """Name of the array's dtype, such as ``"float32"``."""
        # NumPy takes microseconds to build a dtype's name.
        kind = x.dtype
        if kind not in self._dtypes:
            self._dtypes[kind] = self.dtype_name(kind)
        return self._dtypes[kind]

    def dtype_name(self, kind: Any) -> str:
        """Name of a dtype."""
        return str(kind.name)

    def device(self, x: Array) -> Any:
        """Return the array's device as a key; None where it is not known yet."""
        return x.device

    def dense(self, x: Array) -> bool:
        """Whether the array holds all its entries."""
        return True

    def elsewhere(self, x: Array) -> str:
        """Return who steps an array that only looks like one of this library; empty if it is."""
        return ""

    def traced(self, x: Array) -> bool:
        """Whether the array is a tracer, which has no values."""
        return False

    def cast(self, x: Array, dtype: str) -> Array:
        """Return the array in another dtype; the array itself where it has that type."""
        return x.astype(dtype, copy=False)

    def rounded(self, x: Array) -> Array:
        """Return real numbers rounded to bfloat16, in whichever dtype `product` takes them."""
        x = self.cast(x, "float32")
        # Dekker's splitting: of 24 bits the 16 lower ones cancel.
        large = x * 65537.0
        return large - (large - x)

    def product(
        self, a: Array, b: Array, alpha: Any = None, beta: Any = None, c: Any = None
    ) -> Array:
        """Return ``alpha * a @ b + beta * c`` of what `rounded` gave, added up in float32.

        Parameters
        ----------
        a, b : array
            Stacks of matrices.
        alpha, beta : scalar, optional
            Factors.
        c : array, optional
            What is added; nothing by default.

        Returns
        -------
        array
            The result, rounded once.
        """
        found = self.xp.matmul(a, b)
        found = found if alpha is None else self._single(alpha) * found
        return self.rounded(found if c is None else self._single(beta) * c + found)

    def _single(self, number: Any) -> Any:
        return number if isinstance(number, float) else self.cast(number, "float32")

    def scalar(self, value: Scalar, dtype: str, like: Array) -> Scalar:
        """Return a number as a 0-d operand of that type."""
        return self.xp.asarray(value, dtype=getattr(self.xp, dtype), device=self.device(like))

    def zeros(self, like: Array, dtype: str, shape: tuple[int, ...] | None = None) -> Array:
        """Return zeros with the given dtype; layout, device and default shape follow `like`."""
        kind = getattr(self.xp, dtype)
        if shape is not None and shape != tuple(like.shape):
            return self.xp.zeros(shape, dtype=kind, device=self.device(like))
        return self.xp.zeros_like(like, dtype=kind)

    def widest(self, x: Array) -> str:
        """Return the widest dtype of real numbers that the array's device has."""
        return "float64"

    def filled(self, like: Array, dtype: str, shape: tuple[int, ...], value: Scalar) -> Array:
        """Return an array of one number, else as `zeros` gives it."""
        x, number = self.zeros(like, dtype, shape), self.scalar(value, dtype, like)
        if not self.mutable:
            return x + number
        # A sum may lie in another memory order.
        self.store(x, number)
        return x

    def steps(self, x: Array) -> Any:
        """Return the array's strides; None where the library does not expose them."""
        return None

    def spread(self, function: Callable[..., Any], like: Any) -> Callable[..., Any]:
        """Return a function whose results are distributed over devices as some arrays are."""
        return function

    def ordered(self, x: Array, like: Array) -> Array:
        """Return the array in the memory order of another of equal shape and dtype."""
        steps, wanted = self.steps(x), self.steps(like)
        if steps == wanted or not prod(x.shape):
            return x
        if all(a == b for n, a, b in zip(x.shape, steps, wanted, strict=True) if n > 1):
            return x
        new = self.zeros(like, self.dtype(like))
        self.store(new, x)
        return new

    def sparse(self, x: Array) -> tuple[Array, Array, Any] | None:
        """Return indices, rows and shape of a sparse array, as `Rows` takes them.

        It is one that is not `dense`. There are none of some layouts; and no shape where nobody
        knows it.
        """
        return None

    def summed(self, indices: Array, rows: Array, count: int) -> tuple[Array, Array]:
        """Return each row once, in order; several of one number are added up.

        They are added one pair after another at distances that double, in the same order always.
        What is left over where nothing has a value yet gets the number `count`.
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
        """Return rows of an array, which places along its first axes name."""
        xp, lead = self.xp, len(places)
        flat, at = xp.reshape(x, (prod(x.shape[:lead]), *x.shape[lead:])), places[0]
        for length, more in zip(x.shape[1:lead], places[1:], strict=True):
            at = at * length + more
        return xp.take(flat, at, axis=0)

    def put_rows(self, x: Array, places: Sequence[Array], rows: Array) -> Array:
        """Put rows, each of them once, into an array; it is a new one where it cannot be written.

        Numbers that no row has are passed over where the library compiles.
        """
        # Not every library of the standard writes at an array of indices.
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
        """Return an array where an operation has left a scalar."""
        return x

    def store(self, target: Array, value: Array) -> None:
        """Write values into an array, rounded to its dtype."""
        target[...] = value

    def copy(self, x: Array) -> Array:
        """Return an array with memory of its own, where arrays can be written at all."""
        return self.xp.asarray(x, copy=True)

    def along_first(self, x: Array) -> list[Array]:
        """Return views of the array's parts along its first axis."""
        return [x[i, ...] for i in range(x.shape[0])]

    def mapped(self, function: Callable[..., Any]) -> Callable[..., Any] | None:
        """Return a function over the first axis of all arrays in trees; None where nothing maps."""
        return None

    def to_host(self, x: Array) -> np.ndarray:
        """Return the values as a new NumPy array."""
        return np.array(x)

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        """Return the values as a new array; dtype, memory order and device follow `like`."""
        wanted = value.astype(self.dtype(like))
        return self.xp.asarray(wanted, device=self.device(like), copy=True)

    def counted(self, n: int, like: Array) -> Array:
        """Return the numbers from 0 to ``n - 1``; dtype and device follow `like`."""
        there = self.zeros(like, self.dtype(like), (n,))
        return self.from_host(np.arange(n, dtype=np.float64), there)

    def company(self, x: Array) -> tuple[bool, Callable[[int], int]] | None:
        """Return how the processes act together of which each holds a part of an array.

        Returns
        -------
        writes : bool
            Whether this is the process that writes files.
        tell : callable
            Called by all at once, gives the number that the one that writes was given.
            None in place of both where this process holds all of it.
        """
        return None

    def wrap(self, value: np.ndarray) -> Array:
        """Return a NumPy array as one of this library in the same memory; see `host_view`."""
        raise NotImplementedError

    def host_view(self, x: Array) -> np.ndarray | None:
        """Return a NumPy view of the array's memory where the host can read it."""
        return None

    def valued(self, x: Array) -> bool:
        """Whether the array has values, and is no stand-in for its shape and type."""
        return True

    def span(self, x: Array) -> np.ndarray | None:
        """Return a NumPy array over the same addresses, not to be read; None where unknown."""
        return None

    def as_real(self, x: Array) -> Array:
        """Return a complex array as reals, with real and imaginary part along a new last axis."""
        return self.xp.stack((self.xp.real(x), self.xp.imag(x)), axis=-1)

    def as_complex(self, x: Array) -> Array:
        """Undo `as_real`."""
        return x[..., 0] + x[..., 1] * 1j

    def when(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        """Call one of two functions and return its result; the other is not run.

        The condition is a truth value or a 0-d array of one. Where a step is compiled both give
        arrays, or tuples of them, of the same shapes and types.
        """
        return then() if condition else otherwise()

    def fixed(self, x: Array) -> Array:
        """Return an array that derivatives take for a constant."""
        return x

    def sloped(
        self, function: Callable[..., Any], slope: Callable[[Any, Any, Any], Any]
    ) -> Callable[..., Any]:
        """Return a function of arrays that has a derivative of its own where steps have any.

        Parameters
        ----------
        function : callable
            Makes an array, or a tuple of them, of arrays of one type.
        slope : callable
            Given the arguments, what the function makes of them, and changes of the arguments,
            returns the changes of what is made, in which it is linear.
        """
        return function

    def guard(self, like: Array | None = None) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which a step runs, on the device of an array."""
        return contextlib.nullcontext()

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function compiled where the library has a compiler for array code."""
        return function


def summed(indices: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row once, in order; several of one number are added up one after another."""
    rows = rows.astype(np.float32) if rows.dtype.name in HALF else rows
    if bool((indices[1:] > indices[:-1]).all()):
        return indices, rows
    order = np.argsort(indices, kind="stable")
    indices = indices[order]
    first = np.concatenate([[True], indices[1:] != indices[:-1]])
    starts = np.flatnonzero(first)
    # One way is quick where few come again, the other where many do.
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
    """Return an array over memory that must never be read."""
    interface = {
        "version": 3,
        "data": (pointer or 1, True),
        "typestr": f"|V{itemsize}",
        "shape": tuple(shape),
        "strides": tuple(strides),
    }
    return np.asarray(_Addresses(interface))
