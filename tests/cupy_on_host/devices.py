"""Devices, streams and graphs that refuse what CUDA's refuse, on the host."""

from __future__ import annotations

import bisect
import ctypes
import itertools
import threading
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


class CUDARuntimeError(RuntimeError):
    """What CuPy raises for CUDA's own errors."""


class Machine:
    """The devices, and what was asked of them."""

    def __init__(self, devices: int = 4) -> None:
        self.devices, self.newer = devices, True
        self.memory: dict[int, int] = {}
        self.foreign: dict[int, int] = {}
        self.pinned: list[np.ndarray] = []
        self.copies: list[Any] = []
        self.launches: list[tuple[str, int, Any]] = []
        self.compiled: list[tuple[str, ...]] = []
        self.moved: list[int] = []
        self.waits = 0
        self.busy = False
        self.streams: dict[int, Any] = {}

    def is_pinned(self, values: np.ndarray) -> bool:
        return any(np.shares_memory(values, room) for room in self.pinned)

    def on_device(self, address: int) -> bool:
        """Whether an address is one of a device's memory, and not of the host's own."""
        for ranges in (self.memory, self.foreign):
            lows = sorted(ranges)
            place = bisect.bisect_right(lows, address) - 1
            if place >= 0 and address < ranges[lows[place]]:
                return True
        return False


_MACHINE = Machine()
_LOCAL = threading.local()
_NUMBERS = itertools.count(1 << 20, 16)


def machine() -> Machine:
    """Return the machine."""
    return _MACHINE


def renewed() -> Machine:
    """Forget what was asked of the machine."""
    memory, streams = _MACHINE.memory, _MACHINE.streams
    _MACHINE.__init__()  # type: ignore[misc]
    _MACHINE.memory, _MACHINE.streams = memory, streams
    return _MACHINE


def current_device() -> int:
    """Return the number of the current device."""
    return getattr(_LOCAL, "device", 0)


def _streams() -> dict[int, list[Any]]:
    if not hasattr(_LOCAL, "streams"):
        _LOCAL.streams = {}
    found: dict[int, list[Any]] = _LOCAL.streams
    return found


def current_stream(device_id: int = -1) -> Any:
    """Return the current stream of a device."""
    number = current_device() if device_id == -1 else device_id
    return _streams().setdefault(number, [Stream.null])[-1]


def check_synchronous(what: str = "a copy that waits") -> None:
    """Refuse what nobody may do while a graph is captured."""
    if current_stream().graph is not None:
        raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what}")


class Device:
    """A device. Like CuPy's it compares by its number, and cannot be hashed."""

    def __init__(self, device: Any = None) -> None:
        self.id = current_device() if device is None else int(device)
        self._before: list[int] = []

    def __eq__(self, other: Any) -> bool:
        return self.id == other.id if isinstance(other, Device) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __int__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __enter__(self) -> Device:
        if not 0 <= self.id < machine().devices:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self._before.append(current_device())
        _LOCAL.device = self.id
        return self

    def __exit__(self, *error: Any) -> None:
        _LOCAL.device = self._before.pop()

    def use(self) -> Device:
        _LOCAL.device = self.id
        return self

    def synchronize(self) -> None:
        check_synchronous()
        for stream in list(machine().streams.values()):
            stream.synchronize()

    @property
    def compute_capability(self) -> str:
        return "90"


class Event:
    """A point in the work of a stream."""

    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ) -> None:
        self._stream: Any = None
        self._end = 0

    @property
    def done(self) -> bool:
        check_synchronous("the query of an event")
        return self._stream is None or not (machine().busy or self._stream.behind(self._end))

    def record(self, stream: Any = None) -> None:
        self._stream = stream or current_stream()
        self._end = self._stream.length()

    def synchronize(self) -> None:
        check_synchronous()
        if self._stream is not None:
            self._stream.reach(self._end)


class OldStream:
    """A stream. Copies that are not waited for happen as late as its order lets them."""

    null: Any = None
    ptds: Any = None

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, priority: Any = 0
    ) -> None:
        self._begin(0 if null else 2 if ptds else next(_NUMBERS), -1 if null or ptds else None)
        self.blocking = not non_blocking

    def _begin(self, ptr: int, device_id: int | None) -> None:
        self.ptr = ptr
        self.device_id = current_device() if device_id is None else device_id
        self._todo: list[Callable[[], None]] = []
        self._done = 0
        self.blocking = False
        self.graph: list[Callable[[], None]] | None = None
        machine().streams[ptr] = self

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, OldStream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return self.ptr

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.ptr

    def __enter__(self) -> OldStream:
        if self.device_id not in (-1, current_device()):
            raise RuntimeError(
                f"The device that the stream is created on ({self.device_id}) does not match with "
                f"the current device ({current_device()})"
            )
        _streams().setdefault(current_device(), [Stream.null]).append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        _streams()[current_device()].pop()

    # ---- work

    def add(self, work: Callable[[], None], late: bool = False) -> None:
        """Take up work; what the stream was given before comes first."""
        if self.graph is not None:
            self.graph.append(work)
            return
        self._todo.append(work)
        if not late:
            self.reach(len(self._todo))

    def length(self) -> int:
        return len(self._todo)

    def behind(self, end: int) -> bool:
        return self._done < end

    def reach(self, end: int) -> None:
        while self._done < end:
            self._done += 1
            self._todo[self._done - 1]()

    def synchronize(self) -> None:
        if self.graph is not None:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: a synchronization")
        self.reach(len(self._todo))

    def record(self, event: Any = None) -> Any:
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Any) -> None:
        self.add(event.synchronize, late=True)

    # ---- graphs

    def is_capturing(self) -> bool:
        if RUNTIME.is_hip:
            raise RuntimeError("streamIsCapturing is not supported in ROCm")
        others = [s for s in machine().streams.values() if s.graph is not None and s.blocking]
        if self.ptr == 0 and others:
            raise CUDARuntimeError("cudaErrorStreamCaptureImplicit: operation not permitted")
        return self.graph is not None

    def begin_capture(self, mode: Any = None) -> None:
        if self.ptr in (0, 1):
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self.graph = []

    def end_capture(self) -> Graph:
        assert self.graph is not None
        graph, self.graph = Graph(self.graph), None
        return graph


class Stream(OldStream):
    """A stream of CuPy 14."""

    @classmethod
    def from_external(cls, other: Any) -> Any:
        version, ptr = other.__cuda_stream__()
        if version != 0 or not isinstance(ptr, int):
            raise TypeError(f"__cuda_stream__() returned {version}, {ptr}")
        known = machine().streams.get(ptr)
        if known is not None:
            return known
        new = cls.__new__(cls)
        new._begin(ptr, -1)
        return new


class ExternalStream(OldStream):
    """How streams of others were taken before CuPy 14."""

    def __init__(self, ptr: int, device_id: int = -1) -> None:
        if machine().newer:
            warnings.warn("ExternalStream is deprecated", DeprecationWarning, stacklevel=2)
        self._begin(ptr, device_id)


class Graph:
    """What was launched while a stream was captured."""

    def __init__(self, work: list[Callable[[], None]]) -> None:
        self._work = work

    def launch(self, stream: Any = None) -> None:
        for run in self._work:
            (stream or current_stream()).add(run)

    def upload(self, stream: Any = None) -> None:
        pass


def _copy(target: int, source: int, size: int, kind: int, stream: int) -> None:
    machine().moved.append(kind)
    there = source if kind == 2 else target
    assert size == 0 or machine().on_device(there), "copied from or to no memory of a device"
    machine().streams[stream].add(lambda: ctypes.memmove(target, source, size), late=True)


RUNTIME = SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    getDeviceCount=lambda: machine().devices,
    getDevice=current_device,
    memcpyAsync=_copy,
    memcpyDeviceToHost=2,
    memcpyHostToDevice=1,
)
RUNTIME.is_hip = False
OldStream.null = Stream(null=True)
OldStream.ptds = Stream(ptds=True)
