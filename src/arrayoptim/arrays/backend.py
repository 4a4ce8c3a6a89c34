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
    """Return NumPy's data type of that name, bfloat16 included."""
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
        """Name of the array's data type, such as ``"float32"``."""
        # NumPy takes microseconds to make up a data type's name.
        kind = x.dtype
        if kind not in self._dtypes:
            self._dtypes[kind] = self.dtype_name(kind)
        return self._dtypes[kind]

    def dtype_name(self, kind: Any) -> str:
        """Name of a data type."""
        return str(kind.name)

    def device(self, x: Array) -> Any:
        """Return the array's device as a key; None where it is not known yet."""
        return x.device

    def dense(self, x: Array) -> bool:
        """Whether the array holds all its entries."""
        return True

    def traced(self, x: Array) -> bool:
        """Whether the array is a compiler's stand-in, without values."""
        return False

    def cast(self, x: Array, dtype: str) -> Array:
        """Return the array in another data type; the array itself where it has that type."""
        return x.astype(dtype, copy=False)

    def scalar(self, value: Scalar, dtype: str, like: Array) -> Scalar:
        """Return a number as a 0-d operand of that type."""
        return self.xp.asarray(value, dtype=getattr(self.xp, dtype), device=self.device(like))

    def zeros(self, like: Array, dtype: str, shape: tuple[int, ...] | None = None) -> Array:
        """Return zeros of some type; order in memory, device and shape are another array's."""
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
        # A sum may lie in another order in memory.
        self.store(x, number)
        return x

    def steps(self, x: Array) -> Any:
        """Return the array's strides; None where nobody is told."""
        return None

    def ordered(self, x: Array, like: Array) -> Array:
        """Return the array in the order in memory of another one of its shape and type."""
        steps, wanted = self.steps(x), self.steps(like)
        if steps == wanted or not prod(x.shape):
            return x
        if all(a == b for n, a, b in zip(x.shape, steps, wanted, strict=True) if n > 1):
            return x
        new = self.zeros(like, self.dtype(like))
        self.store(new, x)
        return new

    def array(self, x: Array) -> Array:
        """Return an array where an operation has left a scalar."""
        return x

    def store(self, target: Array, value: Array) -> None:
        """Write values into an array, rounded to its data type."""
        target[...] = value

    def copy(self, x: Array) -> Array:
        """Return an array with memory of its own, where arrays can be written at all."""
        return self.xp.asarray(x, copy=True)

    def to_host(self, x: Array) -> np.ndarray:
        """Return the values as a new NumPy array."""
        return np.array(x)

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        """Return the values as a new array in type, order in memory and device like another one."""
        wanted = value.astype(self.dtype(like))
        return self.xp.asarray(wanted, device=self.device(like), copy=True)

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
        """Return a NumPy array over the same addresses, never to be read; None where unknown."""
        return None

    def as_real(self, x: Array) -> Array:
        """Return a complex array as reals, with real and imaginary part along a new last axis."""
        return self.xp.stack((self.xp.real(x), self.xp.imag(x)), axis=-1)

    def as_complex(self, x: Array) -> Array:
        """Undo `as_real`."""
        return x[..., 0] + x[..., 1] * 1j

    def when(self, condition: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
        """Return what one of two functions gives, and carry out no other.

        The condition is a truth value or a 0-d array of one. Where a step is compiled both give
        arrays, or tuples of them, of the same shapes and types.
        """
        return then() if condition else otherwise()

    def guard(self, like: Array | None = None) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which a step runs, on the device of an array."""
        return contextlib.nullcontext()

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function compiled where the library has a compiler for array code."""
        return function


class _Addresses:
    def __init__(self, interface: dict[str, Any]) -> None:
        self.__array_interface__ = interface


def addresses(
    pointer: int, shape: Sequence[int], strides: Sequence[int], itemsize: int
) -> np.ndarray:
    """Return an array over memory that is never to be read."""
    interface = {
        "version": 3,
        "data": (pointer or 1, True),
        "typestr": f"|V{itemsize}",
        "shape": tuple(shape),
        "strides": tuple(strides),
    }
    return np.asarray(_Addresses(interface))
