"""Arrays that are still in the file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .hdf5 import get_text

MOST_STEPS = 2**63 - 1


class Stored:
    """A dataset: shape and data type now, the content when asked.

    Parameters
    ----------
    group : h5py.Group
        Where it is.
    name : str
        Its name in that group.

    Raises
    ------
    ValueError
        If there is no such dataset, or it is no array of numbers.
    """

    def __init__(self, group: Any, name: str) -> None:
        from h5py import h5d

        try:
            self._id = h5d.open(group.id, name.encode())
        except Exception as error:
            raise ValueError(
                f"found no dataset {name!r} in {group.name}, which lists it: the file is damaged "
                "or was cut up"
            ) from error
        self.name = name
        self.shape: tuple[int, ...] = self._id.shape
        self._raw_dtype = np.dtype(self._id.dtype)
        self._half = self._raw_dtype.itemsize == 2 and self._is_bfloat16()
        self.dtype = _bfloat16() if self._half else self._raw_dtype
        if not self._half and self.dtype.kind not in "biufc":
            raise ValueError(f"dataset {name!r}: found data type {self.dtype}, wanted numbers")

    @property
    def nbytes(self) -> int:
        """The size once read."""
        return math.prod(self.shape) * self.dtype.itemsize

    def text(self, name: str) -> str | None:
        """Give a text attribute.

        Parameters
        ----------
        name : str
            The attribute.
        """
        return get_text(self._id, name)

    def read(self) -> np.ndarray:
        """Give the content, bit for bit; bfloat16 as float32 where ml_dtypes is not installed."""
        from h5py import h5s

        self._check_storage()
        array = np.empty(self.shape, self._raw_dtype)
        if array.size:
            self._id.read(h5s.ALL, h5s.ALL, array)
        if not self._half:
            return array
        if self.dtype.itemsize == 2:
            return array.view(self.dtype)
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)

    def _is_bfloat16(self) -> bool:
        return self._raw_dtype.kind in "uV" and self.text("dtype") == "bfloat16"

    def _check_storage(self) -> None:
        """Refuse content that is not in this file, which HDF5 would read as zeros or elsewhere."""
        from h5py import h5d, h5f, h5i

        plan = self._id.get_create_plist()
        wanted = math.prod(self.shape) * self._raw_dtype.itemsize
        found = self._id.get_storage_size()
        if plan.get_layout() == h5d.CHUNKED:
            whole = found > 0 or wanted == 0
        else:
            whole = plan.get_layout() != h5d.VIRTUAL and found == wanted
        if not whole or plan.get_external_count() or found > _size(h5i.get_file_id(self._id), h5f):
            raise ValueError(
                f"dataset {self.name!r}: found {found} bytes in the file, wanted {wanted} for "
                f"shape {self.shape} and {self._raw_dtype}"
            )


def _size(file: Any, h5f: Any) -> int:
    return int(file.get_filesize()) if isinstance(file, h5f.FileID) else 0


def _bfloat16() -> np.dtype[Any]:
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        return np.dtype(np.float32)
    found: np.dtype[Any] = np.dtype(bfloat16)
    return found


def counter(stored: Stored) -> int:
    """Give a step counter.

    Parameters
    ----------
    stored : Stored
        The dataset; some sources count in floating point.

    Raises
    ------
    ValueError
        If it is not one whole number from 0.
    """
    value = number(stored)
    if not (value == value and 0 <= value <= MOST_STEPS and value == int(value)):
        raise ValueError(f"{stored.name}: found {value}, wanted a whole number of steps from 0")
    return int(value)


def number(stored: Stored) -> Any:
    """Give a 0-d dataset as Python number.

    Parameters
    ----------
    stored : Stored
        The dataset.

    Raises
    ------
    ValueError
        If it is no real number.
    """
    if stored.shape != () or stored.dtype.kind not in "iuf":
        raise ValueError(
            f"{stored.name}: found shape {stored.shape} and {stored.dtype}, wanted one number"
        )
    return stored.read().item()
