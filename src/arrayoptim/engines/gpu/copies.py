"""Copies between host and device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["Copies", "Stretch"]

Stretch = tuple[int, int, int]
"""Host address, device address, number of bytes."""


class Copies:
    """Asynchronous copies between host and device, one stream per direction.

    Parameters
    ----------
    cupy : module
        CuPy. Call all methods inside `Device.active`, which sets the device and current stream.
    """

    def __init__(self, cupy: Any) -> None:
        self._cuda = cupy.cuda
        self._down, self._up = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))

    def begin(self) -> None:
        """Order the copies that follow after all work enqueued on the current stream."""
        self._down.wait_event(self._cuda.get_current_stream().record())

    def fetch(self, stretches: Sequence[Stretch], after: Any = None) -> Any:
        """Start copying to the host, without waiting.

        Parameters
        ----------
        stretches : sequence of (int, int, int)
            The stretches to copy.
        after : event, optional
            An event that `put` returned: the copy waits for it, as it overwrites the same memory.

        Returns
        -------
        event
            Recorded after the copies; its ``synchronize()`` waits for them.
        """
        if after is not None:
            self._down.wait_event(after)
        return self._copied(self._down, [(host, there, n) for host, there, n in stretches], "Host")

    def put(self, stretches: Sequence[Stretch]) -> Any:
        """Start copying to the device, without waiting; see `fetch`."""
        return self._copied(self._up, [(there, host, n) for host, there, n in stretches], "Device")

    def _copied(self, stream: Any, rows: Sequence[Stretch], to: str) -> Any:
        runtime = self._cuda.runtime
        way = runtime.memcpyDeviceToHost if to == "Host" else runtime.memcpyHostToDevice
        for target, source, size in rows:
            runtime.memcpyAsync(target, source, size, way, stream.ptr)
        return stream.record()
