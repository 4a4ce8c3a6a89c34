"""Copies between host and device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["Copies", "Stretch"]

Stretch = tuple[int, int, int]
"""Address in host memory, address on the device, number of bytes."""


class Copies:
    """Copies between host and device that overlap with each other and with the host's work.

    Parameters
    ----------
    cupy : module
        CuPy. All methods are to be called with the device and the current stream `Device.active`.
    """

    def __init__(self, cupy: Any) -> None:
        self._cuda = cupy.cuda
        self._down, self._up = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))

    def begin(self) -> None:
        """Order what follows after all work that was given to the current stream."""
        self._down.wait_event(self._cuda.get_current_stream().record())

    def fetch(self, stretches: Sequence[Stretch], after: Any = None) -> Any:
        """Copy to the host, without waiting.

        Parameters
        ----------
        stretches : sequence of (int, int, int)
            What to copy.
        after : event, optional
            What `put` gave: the copy waits for it, as it goes to the same memory.

        Returns
        -------
        event
            Its ``synchronize()`` waits for the copies.
        """
        if after is not None:
            self._down.wait_event(after)
        return self._copied(self._down, [(host, there, n) for host, there, n in stretches], "Host")

    def put(self, stretches: Sequence[Stretch]) -> Any:
        """Copy to the device, without waiting; see `fetch`."""
        return self._copied(self._up, [(there, host, n) for host, there, n in stretches], "Device")

    def _copied(self, stream: Any, rows: Sequence[Stretch], to: str) -> Any:
        runtime = self._cuda.runtime
        way = runtime.memcpyDeviceToHost if to == "Host" else runtime.memcpyHostToDevice
        for target, source, size in rows:
            runtime.memcpyAsync(target, source, size, way, stream.ptr)
        return stream.record()
