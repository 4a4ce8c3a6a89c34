"""The array libraries the tests run on, as data."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from arrayoptim.engines.gpu.arrays import LIBRARIES

ENVIRONMENT_VARIABLE = "ARRAYOPTIM_TEST_BACKENDS"
HALVES = ("float16", "bfloat16")
REALS = ("float32", "float64")
COMPLEX = ("complex64", "complex128")


def np_dtype(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype of a name, bfloat16 included."""
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def precision(name: str) -> float:
    """Return the spacing of a dtype at 1, of its real part for a complex one."""
    dtype = np_dtype(name)
    real = np.dtype(dtype.char.lower()) if dtype.kind == "c" else dtype
    return float(ml_dtypes.finfo(real).eps)


@dataclass(frozen=True)
class TestBackend:
    """One array library."""

    __test__: ClassVar[bool] = False  # pytest would collect the class by its name

    name: str
    convert: Callable[[np.ndarray], Any]
    to_numpy: Callable[[Any], np.ndarray]
    dtypes: tuple[str, ...]
    in_place: bool
    views: bool = False
    """Whether slices are views of the same memory, and that memory has an address."""
    engines: tuple[str, ...] = ("auto",)
    """What `arrayoptim.engine` is asked for; where two engines serve, each by its name."""
    elsewhere: Callable[[np.ndarray], Any] | None = None
    """Makes an array on another device, where the library has one on every machine."""
    offload: bool = True
    """Whether arrays on a GPU can be told from those in host memory."""

    def asarray(self, values: Any, dtype: str | None = None) -> Any:
        """Return a fresh array of this library that shares no memory with `values`."""
        array = np.array(values, copy=True)
        return self.convert(array if dtype is None else array.astype(np_dtype(dtype)))

    def tree(self, arrays: Any, dtype: str | None = None) -> list[Any]:
        """Return a list of fresh arrays."""
        return [self.asarray(array, dtype) for array in arrays]

    def read(self, arrays: Any) -> list[np.ndarray]:
        """Return NumPy copies of a list of arrays."""
        return [np.array(self.to_numpy(array)) for array in arrays]

    def __str__(self) -> str:
        return self.name


EVERY = HALVES + REALS + COMPLEX
ON_THE_HOST: dict[str, Any] = {"in_place": True, "views": True, "engines": ("array", "cpu")}


def _numpy() -> TestBackend:
    return TestBackend("numpy", lambda a: a, np.asarray, EVERY, **ON_THE_HOST)


def _torch() -> TestBackend:
    torch = importlib.import_module("torch")

    def convert(array: np.ndarray) -> Any:
        if array.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(array.astype("float32")).to(torch.bfloat16)
        return torch.from_numpy(array)

    def to_numpy(array: Any) -> np.ndarray:
        array = array.detach().cpu()
        if array.dtype == torch.bfloat16:
            return array.to(torch.float32).numpy().astype(ml_dtypes.bfloat16)
        return array.resolve_conj().numpy()

    def elsewhere(array: np.ndarray) -> Any:
        return torch.empty(array.shape, dtype=convert(array).dtype, device="meta")

    return TestBackend("torch", convert, to_numpy, EVERY, **ON_THE_HOST, elsewhere=elsewhere)


def _torch_cuda() -> TestBackend:
    host = _torch()
    convert, engines = (lambda array: host.convert(array).cuda()), _gpu_engines()
    return TestBackend(
        "torch_cuda", convert, host.to_numpy, EVERY, in_place=True, views=True, engines=engines
    )


def _gpu_engines() -> tuple[str, ...]:
    return ("array", "gpu") if _usable("cupy") else ("auto",)


def _jax() -> TestBackend:
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)  # float64 does not exist otherwise
    return TestBackend("jax", jax.numpy.asarray, np.asarray, EVERY, in_place=False)


def _array_api_strict() -> TestBackend:
    strict = importlib.import_module("array_api_strict")

    def elsewhere(array: np.ndarray) -> Any:
        return strict.asarray(array, device=strict.Device("device1"))

    return TestBackend(
        name="array_api_strict",
        convert=strict.asarray,
        to_numpy=np.from_dlpack,
        dtypes=REALS + COMPLEX,
        in_place=True,
        elsewhere=elsewhere,
    )


def _cupy() -> TestBackend:
    cupy = importlib.import_module("cupy")
    dtypes = ("float16", *REALS, *COMPLEX)
    return TestBackend(
        "cupy",
        cupy.asarray,
        cupy.asnumpy,
        dtypes,
        in_place=True,
        views=True,
        engines=_gpu_engines(),
    )


@contextlib.contextmanager
def emulated(name: str) -> Iterator[TestBackend]:
    """Let there be arrays on a GPU, all but the GPU: CuPy's, or torch tensors."""
    emulation: Any = importlib.import_module("cupy_on_host")
    with emulation.installed():
        if name == "cupy_on_host":
            yield _cupy()
            return
        library: Any = importlib.import_module("gpu_on_host").TorchAsOnGPU()
        before, LIBRARIES["torch"] = LIBRARIES["torch"], library
        try:
            yield replace(_torch(), name=name, engines=("array", "gpu"), offload=False)
        finally:
            LIBRARIES["torch"] = before


def _mlx() -> TestBackend:
    mlx = importlib.import_module("mlx.core")
    served = importlib.import_module("arrayoptim.arrays.mlx").MLX()

    def convert(array: np.ndarray) -> Any:
        if array.dtype == bool:
            return mlx.array(array)
        return served.from_host(array, mlx.zeros(1, getattr(mlx, array.dtype.name)))

    # float64 is for its CPU alone, complex128 unknown.
    mlx.set_default_device(mlx.cpu)
    dtypes = (*HALVES, *REALS, "complex64")
    return TestBackend("mlx", convert, served.to_host, dtypes, in_place=True)


def _dpnp() -> TestBackend:
    dpnp = importlib.import_module("dpnp")
    return TestBackend("dpnp", dpnp.asarray, dpnp.asnumpy, REALS + COMPLEX, in_place=True)


_KEPT = contextlib.ExitStack()


def _cupy_on_host() -> TestBackend:
    # For good: whoever chooses these arrays wants no other CuPy.
    return _KEPT.enter_context(emulated("cupy_on_host"))


_MAKERS = {
    "numpy": _numpy,
    "torch": _torch,
    "jax": _jax,
    "array_api_strict": _array_api_strict,
    "mlx": _mlx,
    "dpnp": _dpnp,
    "cupy": _cupy,
    "torch_cuda": _torch_cuda,
    "cupy_on_host": _cupy_on_host,
}
_EMULATED = ("cupy_on_host",)
"""Chosen by name only."""


def _usable(name: str) -> bool:
    if name in _EMULATED:
        return importlib.import_module("gpu_on_host").compiler() is not None
    library = name.removesuffix("_cuda")
    if importlib.util.find_spec(library) is None:
        return False
    if name == "torch_cuda":
        return bool(importlib.import_module("torch").cuda.is_available())
    if name != "cupy":
        return True
    try:
        return bool(importlib.import_module("cupy").cuda.runtime.getDeviceCount())
    except Exception:  # a CuPy without driver raises one of several errors of its own
        return False


def chosen() -> tuple[TestBackend, ...]:
    """Return the backends of the environment variable, or every one that is installed."""
    wanted = os.environ.get(ENVIRONMENT_VARIABLE, "")
    if not wanted.strip():
        here = (name for name in _MAKERS if name not in _EMULATED and _usable(name))
        return tuple(_MAKERS[name]() for name in here)
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    bad = [name for name in names if name not in _MAKERS or not _usable(name)]
    if bad:
        known = ", ".join(_MAKERS)
        raise ValueError(
            f"{ENVIRONMENT_VARIABLE} asks for {', '.join(bad)}, which cannot be used here; "
            f"known: {known}"
        )
    return tuple(_MAKERS[name]() for name in names)


def on_gpus() -> list[TestBackend | str]:
    """Return the chosen backends of GPUs; where there are none, the names of those `emulated`."""
    real: list[TestBackend | str] = [b for b in BACKENDS if "gpu" in b.engines]
    host = [b.name for b in BACKENDS if b.name in ("numpy", "torch")]
    names = {"numpy": "cupy_on_host", "torch": "torch_on_host"}
    return real or [names[name] for name in host if _usable("cupy_on_host")]


NUMPY = _numpy()
BACKENDS = chosen()
