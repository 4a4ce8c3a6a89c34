"""As much of CuPy as the GPU engine uses, on the host, with what it was asked for on record."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from arrayoptim.engines.gpu.prelude import PRELUDE
from arrayoptim.engines.gpu.sweep import Program
from gpu_on_host import HostDevice


class _Memory:
    """An array of the device: only what `cupy.ndarray` has may be asked."""

    def __init__(self, record: Record, values: np.ndarray) -> None:
        self._record, self._values = record, np.array(values)
        self.shape, self.dtype = values.shape, values.dtype
        self.data = ModuleType("data")
        self.data.ptr = self._values.ctypes.data  # type: ignore[attr-defined]

    def set(self, values: np.ndarray, stream: Any = None) -> None:
        assert values.dtype == self.dtype and values.shape == self.shape
        assert any(values is room for room in self._record.pinned), "the copy would wait"
        self._values[...] = values
        self._record.copies.append(stream)

    def get(self) -> np.ndarray:
        self._record.waits += 1
        return self._values.copy()


class Record:
    """What was asked of the fake CuPy."""

    def __init__(self, newer: bool) -> None:
        self.newer = newer
        self.active: list[Any] = []
        self.copies: list[Any] = []
        self.launches: list[tuple[str, Any, Any]] = []
        self.options: list[Any] = []
        self.pinned: list[np.ndarray] = []
        self.busy = False
        self.waits = 0

    def current(self) -> Any:
        streams = [entry for entry in self.active if entry[0] == "stream"]
        return streams[-1] if streams else ("stream", "own")


def modules(record: Record) -> dict[str, ModuleType]:
    """Return the modules ``cupy`` and ``cupyx``."""
    cupy, cupyx, cuda = ModuleType("cupy"), ModuleType("cupyx"), ModuleType("cupy.cuda")

    @contextlib.contextmanager
    def entered(kind: str, what: Any) -> Iterator[None]:
        record.active.append((kind, what))
        yield
        record.active.pop()

    class Stream:
        if record.newer:

            @classmethod
            def from_external(cls, other: Any) -> Any:
                version, address = other.__cuda_stream__()
                assert version == 0
                return entered("stream", address)

    class Event:
        def __init__(self, disable_timing: bool) -> None:
            self.done = True

        def record(self, stream: Any) -> None:
            self.done = not record.busy

    class RawModule:
        def __init__(self, code: str, options: Any, backend: str) -> None:
            assert backend == "nvrtc" and code.startswith(PRELUDE)
            self._body = code.removeprefix(PRELUDE)
            record.options.append(options)

        def compile(self) -> None:
            assert ("device", 3) in record.active

        def get_function(self, name: str) -> Any:
            host = HostDevice()
            run = host.kernel(Program(name, self._body))

            def launch(grid: Any, block: Any, arguments: Any) -> None:
                assert block == (256,) and ("device", 3) in record.active
                record.launches.append((name, grid, record.current()))
                with host.active(None):
                    run(*grid, arguments)

            return launch

    def empty_pinned(shape: Any, dtype: Any) -> np.ndarray:
        record.pinned.append(np.empty(shape, dtype))
        return record.pinned[-1]

    names = {
        "Device": lambda number: entered("device", number),
        "ExternalStream": lambda address, number: entered("stream", address),
        "Stream": Stream,
        "Event": Event,
        "get_current_stream": record.current,
    }
    vars(cuda).update(names)
    more = {"asarray": lambda x: _Memory(record, x), "RawModule": RawModule, "cuda": cuda}
    vars(cupy).update(more)
    vars(cupyx).update({"empty_pinned": empty_pinned})
    return {"cupy": cupy, "cupyx": cupyx}
