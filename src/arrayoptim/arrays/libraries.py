"""The table of array libraries, the only module that names them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .._typing import Array, Namespace, Scalar
from .backend import COMPLEX, COMPUTE, HALF, Backend, Functions, addresses, numpy_dtype, summed
from .dpnp import DPNP
from .jax import Jax
from .mlx import MLX
from .tensorflow import TensorFlow
from .torch import Torch

__all__ = [
    "COMPLEX",
    "COMPUTE",
    "HALF",
    "NAMES",
    "Backend",
    "backend_of",
    "is_array",
    "is_array_type",
    "is_masked",
    "named",
    "numpy_dtype",
    "register_backend",
]


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

    def cast(self, x: Array, dtype: str) -> Array:
        # Subclasses may redefine operators: `*` of np.matrix is the matrix product.
        return np.asarray(x, dtype=numpy_dtype(dtype))

    def zeros(self, like: Array, dtype: str, shape: tuple[int, ...] | None = None) -> Array:
        return np.zeros_like(like, dtype=numpy_dtype(dtype), subok=False, shape=shape)

    def array(self, x: Array) -> Array:
        return np.asarray(x)

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        new = np.empty_like(like)
        new[...] = value
        return new

    def steps(self, x: Array) -> Any:
        return x.strides

    def stacked(self, arrays: Sequence[Array]) -> Array:
        first, count, whole = arrays[0], len(arrays), arrays[0].base
        rows = isinstance(whole, type(first)) and whole.size == count * first.size > 0
        rows = rows and whole.dtype == first.dtype and whole.flags.c_contiguous
        if rows and all(x.base is whole and x.flags.c_contiguous for x in arrays):
            start = self._address(whole)
            if all(self._address(x) == start + k * first.nbytes for k, x in enumerate(arrays)):
                return whole.reshape(count, *first.shape)
        return self.xp.stack(arrays)

    def _address(self, x: Array) -> int:
        return int(x.__array_interface__["data"][0])

    def summed(self, indices: Array, rows: Array, count: int) -> tuple[Array, Array]:
        return summed(np.asarray(indices), np.asarray(rows))

    def rows_at(self, x: Array, places: Sequence[Array]) -> Array:
        return x[tuple(places)]

    def put_rows(self, x: Array, places: Sequence[Array], rows: Array) -> Array:
        x = x if self.writable(x) else self.copy(x)
        x[tuple(places)] = rows
        return x

    def wrap(self, value: np.ndarray) -> Array:
        return value

    def host_view(self, x: Array) -> np.ndarray | None:
        return np.asarray(x)

    def span(self, x: Array) -> np.ndarray | None:
        return np.asarray(x)

    def as_real(self, x: Array) -> Array:
        part = COMPUTE[x.dtype.name]
        return np.ascontiguousarray(np.asarray(x)[..., None]).view(part)

    def as_complex(self, x: Array) -> Array:
        whole = "complex64" if x.dtype == np.float32 else "complex128"
        return np.ascontiguousarray(x).view(whole)[..., 0]

    def guard(self, like: Array | None = None) -> contextlib.AbstractContextManager[Any]:
        return np.errstate(all="ignore")


def _one_by_one(x: Array) -> tuple[Array, Array]:
    """Return eigenvalues and eigenvectors of symmetric matrices, by CuPy.

    It decomposes stacks by rotations, which for large matrices takes several times as long.
    """
    import array_api_compat.cupy as xp

    if x.ndim < 3 or x.shape[-1] < LARGE:
        found: tuple[Array, Array] = xp.linalg.eigh(x)
        return found
    lead, n = x.shape[:-2], x.shape[-1]
    pairs = [xp.linalg.eigh(each) for each in x.reshape(-1, n, n)]
    values, vectors = (xp.stack(each) for each in zip(*pairs, strict=True))
    return values.reshape(*lead, n), vectors.reshape(*lead, n, n)


def _sign(x: Array) -> Array:
    # The version of array_api_compat indexes by NaN masks, which takes ten times as long.
    import cupy

    return cupy.where(x == x, cupy.sign(x), x)


LARGE = 256
"""From which number of rows on CuPy decomposes matrices faster one by one."""


class _CuPy(_NumPy):
    """CuPy allocates new arrays, including copies, on the current device."""

    name = "cupy"
    _functions: Any = None

    def cast(self, x: Array, dtype: str) -> Array:
        return x if self.dtype(x) == dtype else x.astype(numpy_dtype(dtype), copy=False)

    @property
    def xp(self) -> Namespace:
        import array_api_compat.cupy as xp

        if self._functions is None or self._functions[0] is not xp:
            linear = Functions({"eigh": _one_by_one}, xp.linalg)
            self._functions = xp, Functions({"linalg": linear, "sign": _sign}, xp)
        return self._functions[1]

    def writable(self, x: Array) -> bool:
        return True

    def device(self, x: Array) -> Any:
        # CuPy's device objects are not hashable.
        return int(x.device.id)

    def zeros(self, like: Array, dtype: str, shape: tuple[int, ...] | None = None) -> Array:
        with like.device:
            return self.xp.zeros_like(like, dtype=numpy_dtype(dtype), shape=shape)

    def array(self, x: Array) -> Array:
        import cupy

        return x if isinstance(x, cupy.ndarray) else self.xp.asarray(x)

    def copy(self, x: Array) -> Array:
        with x.device:
            return self.xp.asarray(x, copy=True)

    def to_host(self, x: Array) -> np.ndarray:
        return np.asarray(x.get())

    def from_host(self, value: np.ndarray, like: Array) -> Array:
        with like.device:
            new = self.xp.empty_like(like)
            new[...] = self.xp.asarray(value.astype(like.dtype, copy=False))
        return new

    def store(self, target: Array, value: Array) -> None:
        with target.device:
            target[...] = value

    def _address(self, x: Array) -> int:
        return int(x.data.ptr)

    def summed(self, indices: Array, rows: Array, count: int) -> tuple[Array, Array]:
        return Backend.summed(self, indices, rows, count)

    def host_view(self, x: Array) -> np.ndarray | None:
        return None

    def span(self, x: Array) -> np.ndarray | None:
        return addresses(x.data.ptr, x.shape, x.strides, x.itemsize)

    def stretch(self, x: Array) -> tuple[int, int] | None:
        if not x.flags.c_contiguous:
            return None
        first = self._address(x)
        return first, first + int(x.nbytes)

    def as_real(self, x: Array) -> Array:
        return self.xp.ascontiguousarray(x[..., None]).view(COMPUTE[x.dtype.name])

    def as_complex(self, x: Array) -> Array:
        whole = "complex64" if x.dtype == np.float32 else "complex128"
        return self.xp.ascontiguousarray(x).view(whole)[..., 0]

    @contextlib.contextmanager
    def guard(self, like: Array | None = None) -> Iterator[None]:
        with np.errstate(all="ignore"), contextlib.nullcontext() if like is None else like.device:
            yield


class _Strict(Backend):
    name = "array_api_strict"

    @property
    def xp(self) -> Namespace:
        import array_api_strict

        return array_api_strict

    def dtype_name(self, kind: Any) -> str:
        return str(kind).rpartition(".")[2]

    def cast(self, x: Array, dtype: str) -> Array:
        return self.xp.astype(x, getattr(self.xp, dtype), copy=False)

    def store(self, target: Array, value: Array) -> None:
        target[...] = self.cast(value, self.dtype(target))

    def to_host(self, x: Array) -> np.ndarray:
        return np.array(np.from_dlpack(x))

    def guard(self, like: Array | None = None) -> contextlib.AbstractContextManager[Any]:
        return np.errstate(all="ignore")


_SERVED: tuple[Backend, ...] = (_NumPy(), _CuPy(), Torch(), Jax(), _Strict())
_BACKENDS = {backend.name: backend for backend in _SERVED}

NAMES = tuple(_BACKENDS)
"""Names of the array libraries that the command line offers."""

_BACKENDS |= {"jaxlib": _BACKENDS["jax"]} | {b.name: b for b in (TensorFlow(), MLX(), DPNP())}


_KINDS: dict[type, Backend | None] = {}


def _find(kind: type) -> Backend | None:
    """Return the library of an array type, by the module of the class or of a base class."""
    found = None
    # JAX's sparse arrays set their shape in the constructor.
    shaped = any("shape" in vars(base) or "shape" in _declared(base) for base in kind.__mro__)
    if hasattr(kind, "dtype") and shaped and not _masks(kind):
        roots = (base.__module__.partition(".")[0] for base in kind.__mro__)
        found = next((_BACKENDS[root] for root in roots if root in _BACKENDS), None)
    _KINDS[kind] = found
    return found


def _declared(kind: type) -> Any:
    return getattr(kind, "__annotations__", ())


def _masks(kind: type) -> bool:
    return any(base.__name__ in {"MaskedArray", "MaskedTensor"} for base in kind.__mro__)


def is_masked(x: Any) -> bool:
    """Whether this is a masked array, whose mask no step would honour."""
    return _masks(type(x))


def named(name: str) -> Backend:
    """Return a library by name, one of `NAMES`, whether or not it is installed."""
    return _BACKENDS[name]


def is_array_type(kind: type) -> bool:
    """Whether arrays of this type belong to a supported library."""
    return (_KINDS[kind] if kind in _KINDS else _find(kind)) is not None


def is_array(x: Any) -> bool:
    """Whether this is an array of a supported library."""
    return is_array_type(type(x))


def backend_of(x: Array) -> Backend:
    """Return the library of an array."""
    kind = type(x)
    backend = _KINDS[kind] if kind in _KINDS else _find(kind)
    if backend is None:
        hint = "; masks are not supported, fill them" if is_masked(x) else way_in(kind)
        raise TypeError(f"found {type_name(kind)}, wanted an array{hint}")
    return backend


def type_name(kind: type) -> str:
    """Return a type's name for a message, with its module unless it is a builtin."""
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"


def way_in(kind: type) -> str:
    """Return how to make arrays of this type usable, for a message; empty for types not known."""
    if not hasattr(kind, "__array_namespace__"):
        return ""
    return "; other array API libraries can be added with arrayoptim.register_backend"


def register_backend(backend: Backend, root: str | None = None) -> Backend:
    """Register an additional array library.

    Parameters
    ----------
    backend : Backend
        The library's departures from the array API standard.
    root : str, optional
        The package that defines the arrays' class or a base of it; the ``name`` of the backend by
        default.

    Returns
    -------
    Backend
        The same backend.

    Raises
    ------
    TypeError
        If it is not an instance of `Backend`, or has no name.
    ValueError
        If another class is registered for that package. A redefinition of the same class is not.
    """
    found: Any = backend
    if not isinstance(found, Backend) or found.name == Backend.name:
        raise TypeError(f"found {backend!r}, wanted an instance of a Backend with a name")
    root = backend.name if root is None else root
    known = _BACKENDS.get(root)
    if known is not None and _place(known) != _place(backend):
        raise ValueError(f"arrays of {root!r} already have a backend, {_place(known)}")
    _BACKENDS[root] = backend
    _KINDS.clear()
    return backend


def _place(backend: Backend) -> str:
    return f"{type(backend).__module__}.{type(backend).__qualname__}"
