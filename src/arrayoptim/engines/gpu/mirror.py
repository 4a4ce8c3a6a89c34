"""Host numbers that kernels read."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import Device, Table

__all__ = ["Mirror"]


class Mirror:
    """Host numbers that a kernel reads; they are copied when they have changed.

    Parameters
    ----------
    place : Device
        The device.
    """

    def __init__(self, place: Device) -> None:
        self._device = place
        self._known: np.ndarray[Any, Any] = np.zeros(0)
        self._table, self._room = Table(0, None), 0
        self._due: np.ndarray[Any, Any] | None = None

    def address(self, values: np.ndarray[Any, Any], *, later: bool = False, room: int = 0) -> int:
        """Return the address of numbers on the device.

        Parameters
        ----------
        values : numpy.ndarray
            The numbers, which nobody writes into any more.
        later : bool
            Whether they are copied by `flush` only, as a CUDA graph would repeat a copy.
        room : int
            For how many numbers there is to be room at least, at the same address.

        Returns
        -------
        int
            The address, which holds them when the stream gets there.
        """
        if later:
            assert values.size <= self._room
            self._due = values
            return self._table.address
        if values.size > self._room:
            self._room = max(values.size, room)
            whole = np.zeros(self._room, values.dtype)
            whole[: values.size] = values
            self._table = self._device.table(whole)
        elif self._known is not values and self._known.tobytes() != values.tobytes():
            self._device.write(self._table, values)
        self._known = values
        return self._table.address

    def flush(self) -> None:
        """Copy the deferred numbers."""
        if self._due is not None:
            self.address(self._due)
            self._due = None
