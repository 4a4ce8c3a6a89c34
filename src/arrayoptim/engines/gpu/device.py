"""A GPU as CuPy reaches it: memory, streams and kernels."""

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
"""Starts a kernel, given the numbers of blocks and threads, and integers and floats."""

Launches = Iterator[object]
"""Starts a kernel once, when it is iterated over."""


@cache
def obstacle() -> str | None:
    """Return why no kernel can be compiled and launched here; None where one can.

    Returns
    -------
    str or None
        The reason; None where there is none.
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
    except Exception as error:  # no driver, no device or no compiler: errors of their own
        return f"CuPy finds no GPU or no compiler for it ({' '.join(str(error).split())})"
    return None


def launches(launch: Launch, blocks: int, arguments: tuple[Any, ...]) -> Launches:
    """Return an iterable that starts a kernel when it is iterated over.

    CuPy's function is called in one go with the note that it has been: an interrupt of the program
    comes before or after. Where there are no blocks nothing is started.
    """
    return starmap(launch, [((blocks,), (THREADS,), arguments)] * bool(blocks))


def start(each: Launches) -> None:
    """Start the launches that have not been started."""
    deque(each, maxlen=0)


@dataclass
class Table:
    """Memory of a device.

    Attributes
    ----------
    address : int
        Where it begins.
    memory : object
        What keeps it.
    staging : list
        Buffers of the host out of which it has been written.
    """

    address: int
    memory: Any
    staging: list[tuple[Any, Any]] = field(default_factory=list)


class _Stream:
    """A stream as libraries hand it to each other."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        """Return the version of this protocol, and the address."""
        return 0, self._address


class Device:
    """One GPU.

    Parameters
    ----------
    number : int
        Its number.
    """

    def __init__(self, number: int) -> None:
        import cupy

        self._cupy, self._number = cupy, number
        self._kernels: dict[str, Launch] = {}
        self._copies: Copies | None = None

    @contextlib.contextmanager
    def active(self, stream: int | None) -> Iterator[None]:
        """Make this device the current one.

        Parameters
        ----------
        stream : int or None
            Address of the stream; None for CuPy's own current one.

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
        """Return another library's stream as one of CuPy's."""
        cuda = self._cupy.cuda
        if hasattr(cuda.Stream, "from_external"):  # CuPy 14 warns about the other way
            return cuda.Stream.from_external(_Stream(stream))
        return cuda.ExternalStream(stream, self._number)

    def table(self, values: np.ndarray[Any, Any]) -> Table:
        """Copy numbers to the device.

        Parameters
        ----------
        values : numpy.ndarray
            The numbers.

        Returns
        -------
        Table
            Their place.
        """
        memory = self._cupy.asarray(np.ascontiguousarray(values).reshape(-1))
        return Table(int(memory.data.ptr), memory)

    def write(self, table: Table, values: np.ndarray[Any, Any]) -> None:
        """Replace the numbers of a table, in stream order and without waiting.

        Parameters
        ----------
        table : Table
            The table.
        values : numpy.ndarray
            As many numbers of the same type.
        """
        from cupyx import empty_pinned

        stream = self._cupy.cuda.get_current_stream()
        # A buffer may be written again once the copy from it is complete.
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
        """Wait for the stream, and copy a table to the host.

        Parameters
        ----------
        table : Table
            The table.

        Returns
        -------
        numpy.ndarray
            Its numbers.
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
        """Return two separate streams, one for copies to the host and one for copies back."""
        if self._copies is None:
            self._copies = Copies(self._cupy)
        return self._copies

    def kernel(self, program: Program) -> Launch:
        """Load a kernel, compiling it if needed.

        Parameters
        ----------
        program : Program
            Its text.

        Returns
        -------
        callable
            Launches it on the current stream.
        """
        if program.name not in self._kernels:
            # A compiler error shows here, before anything has changed.
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
        Its number.

    Returns
    -------
    Device
        The same object every time.
    """
    return Device(number)
