"""Arrays that refuse what CuPy's refuse, in host memory."""

from __future__ import annotations

import ctypes
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import names
from .devices import Device, check_synchronous, current_device, current_stream, machine

SCALARS = (bool, int, float, complex, np.generic)
ADDED = ("sum", "mean")
DTYPES = {*"?bhilqBHILQefdFD", "V", "E"}


class ndarray:  # noqa: N801  CuPy's name
    """An array of the device that was current when it was made."""

    __slots__ = ("__weakref__", "_host", "_number", "base")
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 100

    def __init__(self, *arguments: Any, **words: Any) -> None:
        raise AssertionError("nothing here makes arrays by their class")

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    strides = property(lambda self: self._host.strides)
    size = property(lambda self: self._host.size)
    ndim = property(lambda self: self._host.ndim)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    device = property(lambda self: Device(self._number))
    T = property(lambda self: self._view(self._host.T))
    real = property(lambda self: self._view(self._host.real))
    imag = property(lambda self: self._view(self._host.imag))

    @property
    def mT(self) -> ndarray:  # noqa: N802  the standard's name
        if self.ndim < 2:
            raise ValueError("matrix transpose with ndim < 2 is undefined")
        return self._view(np.swapaxes(self._host, -1, -2))

    @property
    def flags(self) -> Any:
        found = self._host.flags
        return SimpleNamespace(
            c_contiguous=found.c_contiguous,
            f_contiguous=found.f_contiguous,
            owndata=self.base is None,
        )

    @property
    def data(self) -> Any:
        return SimpleNamespace(
            ptr=self._host.ctypes.data, device_id=self._number, device=Device(self._number)
        )

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "stream": 1,
            "version": 3,
            "strides": None if self.flags.c_contiguous else self.strides,
            "data": (self.data.ptr if self.size else 0, False),
        }

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **words: Any) -> Any:
        if method != "__call__" or ufunc.__name__ not in names.UFUNCS:
            return NotImplemented
        return elementwise(ufunc)(*inputs, **words)

    def __array_function__(self, function: Any, kinds: Any, given: Any, words: Any) -> Any:
        import cupy

        module = cupy
        for part in function.__module__.split(".")[1:]:
            module = getattr(module, part, None)
        own = getattr(module, function.__name__, None)
        return NotImplemented if own is None or own is function else own(*given, **words)

    def viewed(self, host: np.ndarray) -> ndarray:
        """Return what NumPy has made of the array: a view where that is one."""
        return self._view(host) if np.shares_memory(host, self._host) else made(host)

    def _view(self, host: np.ndarray) -> ndarray:
        return wrapped(host, self._number, self if self.base is None else self.base)

    # ---- what is copied to the host, or waits

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> np.ndarray:
        assert out is None and order in "CFA"
        check_synchronous()
        machine().waits += 1
        (stream or current_stream()).synchronize()
        return np.array(self._host, order=order)  # type: ignore[call-overload,no-any-return]

    def set(self, values: Any, stream: Any = None) -> None:
        if not isinstance(values, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if values.dtype != self.dtype:
            raise TypeError(f"{values.dtype} array cannot be set to {self.dtype} array")
        if values.shape != self.shape:
            raise ValueError("Shape mismatch")
        assert self.flags.c_contiguous or self.flags.f_contiguous
        check_synchronous()
        # A copy out of memory that is not pinned would wait.
        machine().waits += not machine().is_pinned(values)
        machine().copies.append(stream or current_stream())
        self._host[...] = values

    def __bool__(self) -> bool:
        if self.size > 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous.")
        return bool(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __index__(self) -> int:
        return int(self.get())

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]  # type: ignore[no-any-return]

    def __iter__(self) -> Any:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[k] for k in range(self.shape[0]))

    def __repr__(self) -> str:
        return repr(self.get())

    def __reduce__(self) -> Any:
        import cupy

        return cupy.array, (self.get(order="A"),)

    # ---- on the current device

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: Any = True
    ) -> ndarray:
        supported(dtype)
        if not copy and self.dtype == dtype:
            return self
        return made(given(self).astype(dtype, order=order))  # type: ignore[arg-type]

    def copy(self, order: str = "C") -> ndarray:
        host = self._host.copy(order=order)  # type: ignore[arg-type]
        gaps = not (self.flags.c_contiguous or self.flags.f_contiguous)
        if self._number != current_device() and self.size and gaps:
            raise NotImplementedError("CuPy cannot copy non-contiguous array between devices.")
        return made(host)

    def view(self, dtype: Any = None) -> ndarray:
        return self._view(self._host.view() if dtype is None else self._host.view(dtype))

    def reshape(self, *shape: Any, order: str = "C", copy: Any = None) -> ndarray:
        host = given(self)
        return self.viewed(host.reshape(*shape, order=order))  # type: ignore[call-overload]

    def ravel(self, order: str = "C") -> ndarray:
        return self.viewed(given(self).ravel(order=order))  # type: ignore[arg-type]

    def transpose(self, *axes: Any) -> ndarray:
        return self._view(self._host.transpose(*axes))

    def squeeze(self, axis: Any = None) -> ndarray:
        return self._view(self._host.squeeze(axis))

    def fill(self, value: Any) -> None:
        self[...] = value

    def __getitem__(self, where: Any) -> ndarray:
        host = self._host[_places(where)]
        if isinstance(host, np.ndarray) and np.shares_memory(host, self._host):
            return self._view(host)
        # An element is a view too, unlike NumPy's.
        simple = not any(isinstance(w, list | ndarray) for w in _tuple(where))
        if simple and not isinstance(host, np.ndarray):
            return self._view(self._host[(*_tuple(_places(where)), ...)])
        return made(np.asarray(host))

    def __setitem__(self, where: Any, value: Any) -> None:
        given(self)
        if isinstance(value, np.ndarray) and value.shape != ():
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        self._host[_places(where)] = given(value)


def _tuple(where: Any) -> tuple[Any, ...]:
    return where if isinstance(where, tuple) else (where,)


def _places(where: Any) -> Any:
    if isinstance(where, tuple):
        return tuple(_places(each) for each in where)
    return where._host if isinstance(where, ndarray) else where


def supported(dtype: Any) -> None:
    """Refuse a data type that no kernel of CuPy has."""
    kind = np.dtype(dtype)
    if kind.char not in DTYPES or not kind.isnative:
        raise ValueError(f"Unsupported dtype {kind}")


def wrapped(host: np.ndarray, number: int, base: Any) -> ndarray:
    """Return host memory as an array of a device."""
    new = ndarray.__new__(ndarray)
    new._host, new._number, new.base = host, number, base
    return new


def made(host: Any) -> ndarray:
    """Return a new array on the current device."""
    host = np.asarray(host)
    if not host.flags.owndata:
        host = host.copy(order="K")
    supported(host.dtype)
    new = wrapped(host, current_device(), None)
    low = host.ctypes.data
    machine().memory[low] = low + max(host.nbytes, 1)
    weakref.finalize(host, machine().memory.pop, low, None)
    return new


def given(x: Any, alone: bool = True) -> Any:
    """Return what NumPy is to compute with, or refuse as CuPy does."""
    if isinstance(x, ndarray):
        if x._number != current_device():
            raise ValueError(
                f"The device where the array resides ({x._number}) is different from the current "
                f"device ({current_device()}). Peer access is unavailable between these devices."
            )
        check_synchronous("an operation of an array")
        return x._host
    if isinstance(x, np.ndarray) and alone and x.shape != ():
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, list | tuple):
        return type(x)(given(each) for each in x)
    if alone and not isinstance(x, (*SCALARS, np.ndarray)) and x is not None:
        raise TypeError(f"Unsupported type {type(x)}")
    return x


def results(found: Any, order: str = "C") -> Any:
    """Return arrays for whatever NumPy has computed."""
    if isinstance(found, tuple):
        rows = [results(each) for each in found]
        return type(found)(*rows) if hasattr(found, "_fields") else tuple(rows)
    if isinstance(found, list):
        return [results(each) for each in found]
    if not isinstance(found, np.ndarray | np.generic):
        return found
    host = np.asarray(found)
    if isinstance(found, np.ndarray) and not found.flags.owndata and found.base is not None:
        host = found.copy(order="C")
    return made(np.asarray(host, order=order))  # type: ignore[call-overload]


def added(name: str) -> Any:
    """Return a function that adds: with other bits than NumPy's, as a device has its own order."""
    own = getattr(np, name)

    def function(a: ndarray, axis: Any = None, **words: Any) -> Any:
        assert isinstance(a, ndarray)
        host = given(a)
        if host.dtype.kind in "fc" and axis != ():
            host = np.ascontiguousarray(np.flip(host, axis)).reshape(host.shape)
        return results(own(host, axis=axis, **words))

    return function


def elementwise(ufunc: Any) -> Any:
    """Return a function of elements: unlike NumPy's its results are in the order of C."""

    def function(*arrays: Any, out: Any = None, dtype: Any = None, **words: Any) -> Any:
        assert not words, f"no keyword {', '.join(words)} is used here"
        kind = {} if dtype is None else {"dtype": dtype}
        with np.errstate(all="ignore"):
            found = ufunc(*(given(x) for x in arrays), **kind)
        if out is None:
            return results(found)
        out = out[0] if isinstance(out, tuple) else out
        out._host[...] = found
        return out

    function.__name__ = ufunc.__name__
    return function


def _operators() -> None:
    pairs = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
        "pow": np.power, "matmul": np.matmul, "and": np.bitwise_and, "or": np.bitwise_or,
        "mod": np.remainder, "floordiv": np.floor_divide, "xor": np.bitwise_xor,
    }  # fmt: skip
    compared = {
        "lt": np.less, "le": np.less_equal, "eq": np.equal, "ne": np.not_equal,
        "gt": np.greater, "ge": np.greater_equal,
    }  # fmt: skip

    def binary(ufunc: Any, swapped: bool = False, place: bool = False) -> Any:
        function = elementwise(ufunc)

        def operator(self: Any, other: Any) -> Any:
            if not isinstance(other, (*SCALARS, ndarray, np.ndarray)):
                return NotImplemented
            given_ = (other, self) if swapped else (self, other)
            return function(*given_, out=self) if place else function(*given_)

        return operator

    for name, ufunc in pairs.items():
        setattr(ndarray, f"__{name}__", binary(ufunc))
        setattr(ndarray, f"__r{name}__", binary(ufunc, swapped=True))
        setattr(ndarray, f"__i{name}__", binary(ufunc, place=True))
    for name, ufunc in compared.items():
        setattr(ndarray, f"__{name}__", binary(ufunc))
    for name, ufunc in {"neg": np.negative, "abs": np.abs, "invert": np.invert}.items():
        one = elementwise(ufunc)
        setattr(ndarray, f"__{name}__", lambda self, one=one: one(self))


def _methods() -> None:
    for name in ADDED:
        setattr(ndarray, name, added(name))
    for name in ("prod", "max", "min", "any", "all", "argmax", "argmin", "std"):

        def method(self: Any, *more: Any, name: str = name, **words: Any) -> Any:
            return results(getattr(given(self), name)(*more, **words))

        setattr(ndarray, name, method)


_operators()
_methods()
ndarray.__module__ = "cupy"


def at(address: int, size: int) -> Any:
    """Return memory by its address."""
    return (ctypes.c_char * size).from_address(address)
