"""What the library must know of each array library. No other module names one.

The array API standard covers the arithmetic. It leaves out what an optimizer also needs: whether
an array may be written, where its memory lies, the 16-bit types, and complex numbers as pairs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ._typing import Array, Namespace, Scalar

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


class Backend:
    """An array library, by the array API standard; subclasses say where they depart from it."""

    name = "array API"
    mutable = True
    compiles = False

    @property
    def xp(self) -> Namespace:
        """The library's array API namespace."""
        raise NotImplementedError

    def writable(self, x: Array) -> bool:
        """Whether an update may be written into the array."""
        return self.mutable

    def dtype(self, x: Array) -> str:
        """Name of the array's data type, such as ``"float32"``."""
        return str(x.dtype.name)

    def device(self, x: Array) -> Any:
        """The array's device; None where it is not known yet."""
        return x.device

    def traced(self, x: Array) -> bool:
        """Whether the array is a compiler's stand-in, without values."""
        return False

    def cast(self, x: Array, dtype: str) -> Array:
        """Give the array in another data type; the array itself where it has that type."""
        return x.astype(dtype, copy=False)

    def scalar(self, value: Scalar, dtype: str, like: Array) -> Scalar:
        """Give a number as a 0-d operand of that type."""
        return self.xp.asarray(value, dtype=getattr(self.xp, dtype), device=self.device(like))

    def zeros(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        """Give an array of zeros on the device of another array."""
        return self.xp.zeros(shape, dtype=getattr(self.xp, dtype), device=self.device(like))

    def array(self, x: Array) -> Array:
        """Give an array where an operation has left a scalar."""
        return x

    def store(self, target: Array, value: Array) -> None:
        """Write values into an array, rounded to its data type."""
        target[...] = value

    def to_host(self, x: Array) -> np.ndarray:
        """Give the values as a new NumPy array."""
        return np.array(x)

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        """Give a NumPy array's values on the device of another array, as a new array."""
        return self.xp.asarray(value, device=self.device(like), copy=True)

    def host_view(self, x: Array) -> np.ndarray | None:
        """Give a NumPy view of the array's memory where the host can read it."""
        return None

    def span(self, x: Array) -> np.ndarray | None:
        """Give a NumPy array over the same addresses, never to be read; None where unknown."""
        return None

    def as_real(self, x: Array) -> Array:
        """Give a complex array as reals, with real and imaginary part along a new last axis."""
        return self.xp.stack((self.xp.real(x), self.xp.imag(x)), axis=-1)

    def as_complex(self, x: Array) -> Array:
        """Undo `as_real`."""
        return x[..., 0] + x[..., 1] * 1j

    def guard(self) -> contextlib.AbstractContextManager[Any]:
        """Give the context in which a step runs."""
        return contextlib.nullcontext()

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give the function compiled where the library has a compiler for array code."""
        return function


class _NumPy(Backend):
    name = "numpy"

    @property
    def xp(self) -> Namespace:
        return np

    def writable(self, x: Array) -> bool:
        return bool(x.flags.writeable)

    def device(self, x: Array) -> Any:
        return "cpu"

    def scalar(self, value: Scalar, dtype: str, like: Array) -> Scalar:
        return np.dtype(dtype).type(value)

    def zeros(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        return np.zeros(shape, dtype)

    def array(self, x: Array) -> Array:
        return np.asarray(x)

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        return np.array(value)

    def host_view(self, x: Array) -> np.ndarray | None:
        return np.asarray(x)

    def span(self, x: Array) -> np.ndarray | None:
        return np.asarray(x)

    def as_real(self, x: Array) -> Array:
        part = COMPUTE[x.dtype.name]
        return np.ascontiguousarray(x[..., None]).view(part)

    def as_complex(self, x: Array) -> Array:
        whole = "complex64" if x.dtype == np.float32 else "complex128"
        return np.ascontiguousarray(x).view(whole)[..., 0]

    def guard(self) -> contextlib.AbstractContextManager[Any]:
        return np.errstate(all="ignore")


class _CuPy(_NumPy):
    name = "cupy"

    @property
    def xp(self) -> Namespace:
        import array_api_compat.cupy as xp

        return xp

    def writable(self, x: Array) -> bool:
        return True

    def device(self, x: Array) -> Any:
        return x.device

    def zeros(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        with like.device:
            return self.xp.zeros(shape, dtype)

    def array(self, x: Array) -> Array:
        return self.xp.asarray(x)

    def to_host(self, x: Array) -> np.ndarray:
        return np.asarray(x.get())

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        with like.device:
            return self.xp.asarray(value)

    def host_view(self, x: Array) -> np.ndarray | None:
        return None

    def span(self, x: Array) -> np.ndarray | None:
        return _addresses(x.data.ptr, x.shape, x.strides, x.itemsize)

    def as_real(self, x: Array) -> Array:
        return self.xp.ascontiguousarray(x[..., None]).view(COMPUTE[x.dtype.name])

    def as_complex(self, x: Array) -> Array:
        whole = "complex64" if x.dtype == np.float32 else "complex128"
        return self.xp.ascontiguousarray(x).view(whole)[..., 0]


class _Torch(Backend):
    name = "torch"

    @property
    def xp(self) -> Namespace:
        import array_api_compat.torch as xp

        return xp

    def dtype(self, x: Array) -> str:
        return str(x.dtype)[6:]

    def cast(self, x: Array, dtype: str) -> Array:
        return x.to(getattr(self.xp, dtype))

    def scalar(self, value: Scalar, dtype: str, like: Array) -> Scalar:
        # A 0-d tensor on the host combines with tensors of any device.
        return self.xp.asarray(value, dtype=getattr(self.xp, dtype))

    def store(self, target: Array, value: Array) -> None:
        target.copy_(value)

    def to_host(self, x: Array) -> np.ndarray:
        x = x.detach().cpu().resolve_conj()
        if self.dtype(x) == "bfloat16":
            import ml_dtypes

            return np.array(x.view(self.xp.int16).numpy()).view(ml_dtypes.bfloat16)
        return np.array(x.numpy())

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        if value.dtype.name == "bfloat16":
            bits = self.xp.asarray(value.view(np.int16).copy())
            return bits.view(self.xp.bfloat16).to(like.device)
        return self.xp.asarray(np.array(value)).to(like.device)

    def host_view(self, x: Array) -> np.ndarray | None:
        if x.device.type != "cpu" or self.dtype(x) == "bfloat16" or x.is_conj():
            return None
        view: np.ndarray = x.detach().numpy()
        return view

    def span(self, x: Array) -> np.ndarray | None:
        strides = tuple(stride * x.element_size() for stride in x.stride())
        return _addresses(x.data_ptr(), tuple(x.shape), strides, x.element_size())

    def as_real(self, x: Array) -> Array:
        return self.xp.view_as_real(x.resolve_conj())

    def as_complex(self, x: Array) -> Array:
        return self.xp.view_as_complex(x.contiguous())

    def guard(self) -> contextlib.AbstractContextManager[Any]:
        import torch

        guard: contextlib.AbstractContextManager[Any] = torch.no_grad()
        return guard


class _Jax(Backend):
    name = "jax"
    mutable = False
    compiles = True

    @property
    def xp(self) -> Namespace:
        import jax.numpy as jnp

        return jnp

    def device(self, x: Array) -> Any:
        return None if self.traced(x) else frozenset(x.devices())

    def traced(self, x: Array) -> bool:
        import jax

        return isinstance(x, jax.core.Tracer)

    def cast(self, x: Array, dtype: str) -> Array:
        return x.astype(dtype)

    def scalar(self, value: Scalar, dtype: str, like: Array) -> Scalar:
        return self.xp.asarray(value, dtype=dtype)

    def zeros(self, shape: tuple[int, ...], dtype: str, like: Array) -> Array:
        # Zeros made from the array itself take its sharding, traced or not.
        zeros = self.xp.zeros_like(like, dtype=dtype)
        return zeros if zeros.shape == tuple(shape) else self.xp.zeros(shape, dtype)

    def to_host(self, x: Array) -> np.ndarray:
        return np.array(x)

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        import jax

        # A copy first: on the CPU, JAX may keep the memory it is given.
        return jax.device_put(np.array(value), like.sharding)

    def as_complex(self, x: Array) -> Array:
        import jax

        return jax.lax.complex(x[..., 0], x[..., 1])

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import jax

        compiled: Callable[..., Any] = jax.jit(function)
        return compiled


class _Strict(Backend):
    name = "array_api_strict"

    @property
    def xp(self) -> Namespace:
        import array_api_strict

        return array_api_strict

    def dtype(self, x: Array) -> str:
        return str(x.dtype).rpartition(".")[2]

    def cast(self, x: Array, dtype: str) -> Array:
        return self.xp.astype(x, getattr(self.xp, dtype), copy=False)

    def store(self, target: Array, value: Array) -> None:
        target[...] = self.cast(value, self.dtype(target))

    def to_host(self, x: Array) -> np.ndarray:
        return np.array(np.from_dlpack(x))

    def guard(self) -> contextlib.AbstractContextManager[Any]:
        return np.errstate(all="ignore")


_BACKENDS = {backend.name: backend for backend in (_NumPy(), _CuPy(), _Torch(), _Jax(), _Strict())}

NAMES = tuple(_BACKENDS)
"""Names of the array libraries served."""

_BACKENDS["jaxlib"] = _BACKENDS["jax"]


@cache
def _backend_of_type(kind: Any) -> Backend | None:
    for base in kind.__mro__:
        backend = _BACKENDS.get(base.__module__.partition(".")[0])
        if backend is not None and hasattr(kind, "dtype") and hasattr(kind, "shape"):
            return backend
    return None


def is_array(x: Any) -> bool:
    """Whether this is an array of a library that is served."""
    return _backend_of_type(type(x)) is not None


def backend_of(x: Array) -> Backend:
    """Give the library of an array."""
    backend = _backend_of_type(type(x))
    if backend is None:
        raise TypeError(f"found {type(x).__module__}.{type(x).__qualname__}, wanted an array")
    return backend


class _Addresses:
    def __init__(self, interface: dict[str, Any]) -> None:
        self.__array_interface__ = interface


def _addresses(
    pointer: int, shape: Sequence[int], strides: Sequence[int], itemsize: int
) -> np.ndarray:
    interface = {
        "version": 3,
        "data": (pointer or 1, True),
        "typestr": f"|V{itemsize}",
        "shape": tuple(shape),
        "strides": tuple(strides),
    }
    return np.asarray(_Addresses(interface))


def overlapping(arrays: Sequence[Array]) -> tuple[int, int] | None:
    """Find two arrays that share memory, or one whose own entries do.

    Returns
    -------
    (int, int) or None
        The places of a pair; twice the same place for an array that overlaps itself.
    """
    spans = []
    for place, array in enumerate(arrays):
        span = backend_of(array).span(array)
        if span is None or span.size == 0:
            continue
        if any(s == 0 and n > 1 for s, n in zip(span.strides, span.shape, strict=True)):
            return place, place
        spans.append((*np.lib.array_utils.byte_bounds(span), place, span))
    spans.sort(key=lambda entry: entry[:3])
    active: list[Any] = []
    for entry in spans:
        active = [other for other in active if other[1] > entry[0]]
        for other in active:
            if np.shares_memory(other[3], entry[3]):
                return min(other[2], entry[2]), max(other[2], entry[2])
        active.append(entry)
    return None
