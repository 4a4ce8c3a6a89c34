"""Device copies of host arrays that kernels read."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import Device, Table

__all__ = ["Mirror"]


class Mirror:
    """The device copy of a host array that kernels read, updated when that changes.

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
        """Return the device address of an array's copy.

        Parameters
        ----------
        values : numpy.ndarray
            The host array, which must not be modified afterwards.
        later : bool
            Whether to leave the copy to `flush`, as a CUDA graph would replay it.
        room : int
            The least number of elements to allocate for, so that later ones keep the address.

        Returns
        -------
        int
            The address, whose contents are valid in stream order.
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
        """Copy what was deferred."""
        if self._due is not None:
            self.address(self._due)
            self._due = None
