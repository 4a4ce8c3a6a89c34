"""CuPy on the host: the names, refusals and quirks of version 14.2, and all it was asked for.

What the library may ask of CuPy is kept in `names`; each function takes and gives what CuPy's does:
no NumPy array where an array is wanted, arrays of the current device only, 0-d arrays where NumPy
has scalars, results in the order of C, devices that cannot be hashed. Kernels go to the host's C++
compiler, and read no address but of memory that was taken here.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np

from . import kernels, names
from .arrays import ADDED, added, elementwise, given, made, ndarray, results, supported
from .devices import (
    RUNTIME,
    Device,
    Event,
    ExternalStream,
    Machine,
    OldStream,
    Stream,
    current_stream,
    machine,
    renewed,
)

__all__ = ["Machine", "installed", "machine", "ndarray", "renewed"]


def _function(name: str, module: Any = np) -> Any:
    """Return a function of CuPy's that computes as NumPy's does."""
    own = getattr(module, name)

    def function(*arguments: Any, **words: Any) -> Any:
        with np.errstate(all="ignore"):
            found = own(
                *(given(x) if _is_data(x) else x for x in arguments),
                **{key: given(x) if _is_data(x) else x for key, x in words.items()},
            )
        source = arguments[0] if arguments else None
        if name in names.VIEWS and isinstance(source, ndarray):
            return source.viewed(found)
        return results(found)

    function.__name__ = name
    return function


def _is_data(x: Any) -> bool:
    return isinstance(x, ndarray | np.ndarray) or (
        isinstance(x, list | tuple) and any(isinstance(each, ndarray | np.ndarray) for each in x)
    )


def _like(name: str) -> Any:
    own = getattr(np, name)

    def function(
        a: ndarray,
        *value: Any,
        dtype: Any = None,
        order: str = "K",
        subok: Any = None,
        shape: Any = None,
    ) -> ndarray:
        assert isinstance(a, ndarray) and subok is None
        supported(a.dtype if dtype is None else dtype)
        return made(own(a._host, *value, dtype=dtype, order=order, shape=shape))

    return function


def _array(
    obj: Any,
    dtype: Any = None,
    copy: Any = True,
    order: Any = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    if isinstance(obj, ndarray):
        wanted = obj.dtype if dtype is None else np.dtype(dtype)
        if obj.device == Device():
            return obj.astype(wanted, order=order or "K", copy=bool(copy))
        return obj.copy(order=order or "K").astype(wanted, copy=False)
    if isinstance(obj, list | tuple) and _is_data(obj):
        return made(np.array(given(obj), dtype=dtype))
    host = np.array(obj, dtype=dtype)
    fortran = isinstance(obj, np.ndarray) and obj.flags.fnc and order in ("K", "A", None)
    return made(np.array(host, order="F" if fortran else "C"))


def _asarray(
    a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False
) -> ndarray:
    return _array(a, dtype, bool(copy), order)


def _contiguous(a: ndarray, dtype: Any = None) -> ndarray:
    assert isinstance(a, ndarray), "CuPy's takes nothing else"
    if a.flags.c_contiguous and (dtype is None or a.dtype == dtype):
        return a
    return made(np.ascontiguousarray(given(a), dtype=dtype))


def _empty_pinned(shape: Any, dtype: Any = float, order: str = "C") -> np.ndarray:
    machine().pinned.append(np.empty(shape, dtype, order))  # type: ignore[call-overload]
    return machine().pinned[-1]


def _cuda(newer: bool) -> ModuleType:
    cuda = ModuleType("cupy.cuda")
    contents = {
        "Device": Device,
        "Stream": Stream if newer else OldStream,
        "ExternalStream": ExternalStream,
        "Event": Event,
        "get_current_stream": current_stream,
        "runtime": RUNTIME,
        "compiler": kernels.COMPILER,
        "function": kernels.FUNCTION,
        "nvrtc": kernels.NVRTC,
    }
    vars(cuda).update(contents)
    return cuda


def modules(newer: bool = True) -> dict[str, ModuleType]:
    """Return the modules ``cupy`` and ``cupyx``, of CuPy 14 or of one before."""
    cupy, cupyx = ModuleType("cupy"), ModuleType("cupyx")
    cupy.__path__ = []  # type: ignore[attr-defined]
    contents: dict[str, Any] = {name: getattr(np, name) for name in names.SHARED}
    contents |= {name: elementwise(getattr(np, name)) for name in names.UFUNCS}
    # NumPy 2.0 lacks one of them, which nothing here asks for.
    contents |= {name: _function(name) for name in names.FUNCTIONS if hasattr(np, name)}
    likes = ("zeros_like", "ones_like", "empty_like", "full_like")
    contents |= {name: _like(name) for name in likes}
    contents |= {name: added(name) for name in ADDED}
    contents |= {"array": _array, "asarray": _asarray, "asanyarray": _asarray}
    contents |= {"ascontiguousarray": _contiguous, "ndarray": ndarray}
    contents |= {"asnumpy": lambda a: a.get() if isinstance(a, ndarray) else np.asarray(a)}
    contents |= {"linalg": ModuleType("cupy.linalg"), "fft": ModuleType("cupy.fft")}
    contents |= {"cuda": _cuda(newer), "RawModule": kernels.RawModule}
    contents |= {"__version__": "14.2.0" if newer else "13.6.0"}
    vars(cupy).update(contents)
    linalg = {name: _function(name, np.linalg) for name in names.LINALG}
    vars(cupy.linalg).update(linalg, LinAlgError=np.linalg.LinAlgError)
    vars(cupyx).update({"empty_pinned": _empty_pinned})
    below = {f"cupy.{name}": getattr(cupy, name) for name in ("cuda", "linalg", "fft")}
    cupy.cuda.__path__ = []
    device = ModuleType("cupy.cuda.device")
    vars(device).update(Device=Device)
    found = {"cupy": cupy, "cupyx": cupyx, "cupy.cuda.device": device, **below}
    for name, module in found.items():
        module.__spec__ = ModuleSpec(name, None)
    return found


_ROOTS = ("cupy", "cupyx", "array_api_compat.cupy")


def _evict() -> dict[str, Any]:
    mine = [name for name in sys.modules if any(f"{name}.".startswith(f"{r}.") for r in _ROOTS)]
    return {name: sys.modules.pop(name) for name in mine}


@contextlib.contextmanager
def installed(newer: bool = True, rocm: bool = False) -> Iterator[Machine]:
    """Let this be CuPy, whether or not there is another one."""
    import array_api_compat

    from arrayoptim.engines.gpu.device import device, obstacle

    before, attribute = _evict(), array_api_compat.__dict__.pop("cupy", None)
    sys.modules.update(modules(newer))
    caches: list[Any] = [device, obstacle]
    RUNTIME.is_hip = rocm
    for each in caches:
        each.cache_clear()
    try:
        found = renewed()
        found.newer = newer
        yield found
    finally:
        RUNTIME.is_hip = False
        _evict()
        sys.modules.update(before)
        if attribute is not None:
            array_api_compat.cupy = attribute
        for each in caches:
            each.cache_clear()
