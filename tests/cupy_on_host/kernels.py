"""CuPy's compilers, behind which a C++ compiler of the host does what a GPU would do."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np

from arrayoptim.engines.gpu.prelude import THREADS
from gpu_on_host import called, library_of_text

from .arrays import at
from .devices import current_device, current_stream, machine


class CompileException(Exception):  # noqa: N818  CuPy's name
    """What CuPy raises for a text that does not compile."""


def compile_using_nvrtc(
    source: str,
    options: tuple[str, ...] = (),
    arch: Any = None,
    filename: str = "kern.cu",
    name_expressions: Any = None,
    log_stream: Any = None,
    cache_in_memory: bool = False,
    jitify: Any = None,
    method: Any = None,
) -> tuple[bytes, Any]:
    """Compile with NVRTC as it is: it flushes subnormal numbers only where it is told to."""
    assert isinstance(options, tuple) and isinstance(filename, str) and jitify is None
    machine().compiled.append(options)
    return json.dumps([source, options, current_device()]).encode(), None


class Module:
    """Machine code on the device that is current when it is loaded."""

    def load(self, code: bytes) -> None:
        if type(code) is not bytes:
            raise TypeError(f"Expected bytes, got {type(code).__name__}")
        try:
            source, options, _ = json.loads(code)
        except ValueError:
            raise RuntimeError("CUDA_ERROR_INVALID_IMAGE: device kernel image is invalid") from None
        last = [word for word in options if word.lstrip("-").startswith("ftz=")][-1:]
        self._library = library_of_text(source, flush=bool(last) and last[0].endswith("true"))
        self._number = current_device()

    def get_function(self, name: str) -> Any:
        library, number = self._library, self._number
        function = getattr(library, name)
        function.restype = None

        def launch(grid: Any, block: Any, arguments: Any, shared_mem: int = 0) -> None:
            assert isinstance(grid, tuple) and block == (THREADS,) and len(grid) == 1
            assert current_device() == number, "a kernel of another device"
            for argument in arguments:
                _check(argument)
            machine().launches.append((name, number, current_stream()))
            current_stream().add(lambda: called(library, function, grid[0], arguments))

        return launch


def _check(argument: Any) -> None:
    """Refuse an address of the host, which a device cannot read."""
    if type(argument) is float:
        return
    assert type(argument) is int, f"an argument of type {type(argument)}"
    if argument < 1 << 32:
        return
    assert machine().on_device(argument), "an illegal memory access"
    end = next((end for low, end in list(machine().memory.items()) if low == argument), None)
    if end is not None and (end - argument) % 8 == 0:
        # A table may hold addresses itself.
        numbers = np.frombuffer(at(argument, end - argument), np.int64)
        for value in numbers[(numbers > 1 << 40) & (numbers < 1 << 48)][:512].tolist():
            assert machine().on_device(value), "an illegal memory access"


class RawModule:
    """CuPy's own compiler, which adds ``-ftz=true`` to all options."""

    def __init__(self, *, code: str, options: Any = (), backend: str = "nvrtc") -> None:
        self._code, self._options = code, (*options, "-ftz=true")

    def compile(self, log_stream: Any = None) -> None:
        self._module = Module()
        self._module.load(compile_using_nvrtc(self._code, self._options)[0])

    def get_function(self, name: str) -> Any:
        if not hasattr(self, "_module"):
            self.compile()
        return self._module.get_function(name)


COMPILER = SimpleNamespace(compile_using_nvrtc=compile_using_nvrtc)
FUNCTION = SimpleNamespace(Module=Module)
# No compiler has this version: what is kept on disk serves no other.
NVRTC = SimpleNamespace(getVersion=lambda: (0, 0))
