"""A GPU, accessed through CuPy: memory, streams and kernels."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import starmap
from typing import Any

import numpy as np

from .copies import Copies
from .cubin import loaded
from .prelude import THREADS
from .program import Program

__all__ = [
    "Device",
    "Launch",
    "Launches",
    "Table",
    "device",
    "launches",
    "obstacle",
    "start",
]

Launch = Callable[[tuple[int], tuple[int], tuple[Any, ...]], object]
"""Launches a kernel, given the grid, the block, and integer and float arguments."""

Launches = Iterator[object]
"""Launches a kernel once, when iterated over."""


@cache
def obstacle() -> str | None:
    """Return why kernels cannot be compiled and launched here; None if they can.

    Returns
    -------
    str or None
        The reason, or None.
    """
    try:
        import cupy
    except ImportError:
        return "CuPy, which compiles and launches the kernels, is not installed (extra cupy12)"
    except Exception as error:  # a broken installation may raise anything
        return f"the import of CuPy fails with {type(error).__name__}: {error}"
    if cupy.cuda.runtime.is_hip:
        return "the kernels are CUDA's, and this CuPy is for ROCm"
    try:
        cupy.cuda.runtime.getDeviceCount()
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:  # no driver, device or compiler: each has its own errors
        return f"CuPy finds no GPU or no compiler for it ({' '.join(str(error).split())})"
    return None


def launches(launch: Launch, blocks: int, arguments: tuple[Any, ...]) -> Launches:
    """Return an iterable that launches a kernel when iterated over.

    A single call into C launches the kernel and exhausts the iterator, so that an interrupt comes
    before or after both. With 0 blocks nothing is launched.
    """
    return starmap(launch, [((blocks,), (THREADS,), arguments)] * bool(blocks))


def start(each: Launches) -> None:
    """Run those launches that have not run yet."""
    deque(each, maxlen=0)


@dataclass
class Table:
    """A table in device memory.

    Attributes
    ----------
    address : int
        The device address.
    memory : object
        The object that owns the memory.
    staging : list
        Pinned host buffers that it has been copied from, each with an event.
    """

    address: int
    memory: Any
    staging: list[tuple[Any, Any]] = field(default_factory=list)


class _Stream:
    """A stream in the CUDA stream protocol, by which libraries share streams."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        """Return the protocol version and the stream handle."""
        return 0, self._address


class Device:
    """One GPU.

    Parameters
    ----------
    number : int
        Its CUDA device index.
    """

    def __init__(self, number: int) -> None:
        import cupy

        self._cupy, self._number = cupy, number
        self._kernels: dict[str, Launch] = {}
        self._copies: Copies | None = None
        self._last: tuple[int, Any] = -1, None

    @contextlib.contextmanager
    def active(self, stream: int | None) -> Iterator[None]:
        """Make this device and a stream current for CuPy.

        Parameters
        ----------
        stream : int or None
            Handle of the stream; None for CuPy's own current one.

        Yields
        ------
        None
            Nothing.
        """
        cuda = self._cupy.cuda
        with cuda.Device(self._number):
            if stream is None:
                yield
                return
            with self._foreign(stream):
                yield

    def _foreign(self, stream: int) -> Any:
        """Return another library's stream as a CuPy stream."""
        handle, found = self._last
        if handle != stream:
            cuda = self._cupy.cuda
            if hasattr(cuda.Stream, "from_external"):  # CuPy 14 deprecates ExternalStream
                found = cuda.Stream.from_external(_Stream(stream))
            else:
                found = cuda.ExternalStream(stream, self._number)
            self._last = stream, found
        return found

    def table(self, values: np.ndarray[Any, Any]) -> Table:
        """Copy an array to the device.

        Parameters
        ----------
        values : numpy.ndarray
            The host array.

        Returns
        -------
        Table
            The table that holds the copy.
        """
        memory = self._cupy.asarray(np.ascontiguousarray(values).reshape(-1))
        return Table(int(memory.data.ptr), memory)

    def write(self, table: Table, values: np.ndarray[Any, Any]) -> None:
        """Overwrite a table, in stream order and without waiting.

        Parameters
        ----------
        table : Table
            The table.
        values : numpy.ndarray
            At most as many elements, of the same dtype.
        """
        from cupyx import empty_pinned

        stream = self._cupy.cuda.get_current_stream()
        # A staging buffer may be reused once the copy from it has completed.
        fitting = (pair for pair in table.staging if pair[0].size == values.size)
        free = next((pair for pair in fitting if pair[1].done), None)
        if free is None:
            room = empty_pinned((values.size,), table.memory.dtype)
            free = room, self._cupy.cuda.Event(disable_timing=True)
            table.staging.append(free)
        room, copied = free
        room[...] = values.reshape(-1)
        table.memory[: values.size].set(room, stream=stream)
        copied.record(stream)

    def read(self, table: Table) -> np.ndarray[Any, Any]:
        """Copy a table to the host; syncs with the stream.

        Parameters
        ----------
        table : Table
            The table.

        Returns
        -------
        numpy.ndarray
            The host copy.
        """
        values: np.ndarray[Any, Any] = table.memory.get()
        return values

    def pinned(self, size: int) -> np.ndarray[Any, Any]:
        """Return pinned host memory.

        Parameters
        ----------
        size : int
            Number of bytes.

        Returns
        -------
        numpy.ndarray of uint8
            The memory.
        """
        from cupyx import empty_pinned

        room: np.ndarray[Any, Any] = empty_pinned((size,), np.uint8)
        return room

    def copies(self) -> Copies:
        """Return copies on two streams of their own, one for each direction."""
        if self._copies is None:
            self._copies = Copies(self._cupy)
        return self._copies

    def kernel(self, program: Program) -> Launch:
        """Load a kernel, compiling it if it is not cached.

        Parameters
        ----------
        program : Program
            Its source.

        Returns
        -------
        callable
            Launches it on the current stream.
        """
        if program.name not in self._kernels:
            # Raises a compiler error here, before anything has changed.
            with self._cupy.cuda.Device(self._number):
                function = loaded(self._cupy, program)
            self._kernels[program.name] = function
        return self._kernels[program.name]


@cache
def device(number: int) -> Device:
    """Return a GPU.

    Parameters
    ----------
    number : int
        Its CUDA device index.

    Returns
    -------
    Device
        The device; the same object on every call.
    """
    return Device(number)
