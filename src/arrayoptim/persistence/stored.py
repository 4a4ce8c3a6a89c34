"""Arrays that are still in the file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..config.validation import MOST_STEPS
from .hdf5 import get_text
from .reader import Dataset, Group


class Stored:
    """A dataset whose shape and dtype are known, and whose content is read on demand.

    Parameters
    ----------
    group : Group
        Its group.
    name : str
        Its name in that group.

    Raises
    ------
    ValueError
        If there is no such dataset, it is not numeric, or its content is not in the file.
    """

    def __init__(self, group: Group, name: str) -> None:
        found = group.at(name)
        if not isinstance(found, Dataset):
            raise ValueError(
                f"found no dataset {name!r} in {group.name}, which lists it: the file is damaged "
                "or was cut up"
            )
        self._dataset = found
        self.name = name
        self.address = found.address
        self.shape: tuple[int, ...] = found.shape
        kind = found.type.dtype
        self._half = kind is not None and kind.itemsize == 2 and self._is_bfloat16(kind)
        if kind is None or not (self._half or kind.kind in "biufc"):
            raise ValueError(
                f"dataset {name!r}: found data type {kind or 'unknown'}, wanted numbers"
            )
        self._raw_dtype = kind
        self.dtype = _bfloat16() if self._half else kind
        self._check_storage()

    @property
    def nbytes(self) -> int:
        """Its size in memory once read."""
        return math.prod(self.shape) * self.dtype.itemsize

    def text(self, name: str) -> str | None:
        """Return a text attribute.

        Parameters
        ----------
        name : str
            The attribute.
        """
        return get_text(self._dataset, name)

    def read(self) -> np.ndarray:
        """Return the content, bit for bit; bfloat16 as float32 if ml_dtypes is not installed."""
        array = np.empty(self.shape, self._raw_dtype)
        self._dataset.storage.read(array)
        if not self._half:
            return array
        if self.dtype.itemsize == 2:
            return array.view(self.dtype)
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)

    def _is_bfloat16(self, kind: np.dtype[Any]) -> bool:
        return kind.kind in "uV" and self.text("dtype") == "bfloat16"

    def _check_storage(self) -> None:
        """Raise for content outside this file, which HDF5 would read as zeros or from elsewhere."""
        storage = self._dataset.storage
        if not storage.whole():
            raise ValueError(
                f"dataset {self.name!r}: found {storage.stored} bytes in the file, wanted "
                f"{storage.wanted} for shape {self.shape} and {self._raw_dtype}"
            )
        storage.check()


def _bfloat16() -> np.dtype[Any]:
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        return np.dtype(np.float32)
    found: np.dtype[Any] = np.dtype(bfloat16)
    return found


def counter(stored: Stored) -> int:
    """Return a step counter.

    Parameters
    ----------
    stored : Stored
        The dataset; some sources store the count as a float.

    Raises
    ------
    ValueError
        If it is not a single nonnegative integer.
    """
    value = number(stored)
    if not (value == value and 0 <= value <= MOST_STEPS and value == int(value)):
        raise ValueError(f"{stored.name}: found {value}, wanted an integer of steps from 0")
    return int(value)


def number(stored: Stored) -> Any:
    """Return a 0-d dataset as a Python number.

    Parameters
    ----------
    stored : Stored
        The dataset.

    Raises
    ------
    ValueError
        If it is not a single real number.
    """
    if stored.shape != () or stored.dtype.kind not in "iuf":
        raise ValueError(
            f"{stored.name}: found shape {stored.shape} and {stored.dtype}, wanted one number"
        )
    return stored.read().item()
