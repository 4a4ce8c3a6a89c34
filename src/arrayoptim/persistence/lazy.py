"""Lazily read arrays, and their error messages."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from ..config.readable import readable
from .reader import DamagedError
from .record import Record

# What zipfile and json, and the use of their content, raise on damaged files.
BROKEN = (
    ValueError,
    OSError,
    LookupError,
    RuntimeError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)

WANTED = "wanted a whole HDF5 or .keras file: it is truncated, damaged or of another kind"


class Late:
    """An array in an open file; see `Stored`.

    Parameters
    ----------
    stored : Stored or Packed
        The array in the file.
    """

    __slots__ = ("_stored", "dtype", "nbytes", "shape")

    def __init__(self, stored: Any) -> None:
        self._stored = stored
        self.shape: tuple[int, ...] = stored.shape
        self.dtype: np.dtype[Any] = stored.dtype
        self.nbytes: int = stored.nbytes

    def read(self) -> np.ndarray:
        """Return the content.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        try:
            found: np.ndarray = self._stored.read()
        except BROKEN as error:
            raise ValueError(_said(error)) from error
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the content, for NumPy."""
        return np.asarray(self.read(), dtype)


def late(record: Record) -> Record:
    """Return a record with lazily read arrays."""
    return replace(
        record, slots={name: [Late(x) for x in row] for name, row in record.slots.items()}
    )


@contextmanager
def read_from(where: str) -> Iterator[None]:
    """Add the file name to every error."""
    try:
        yield
    except BROKEN as error:
        raise ValueError(f"{readable(where, None)}: {_said(error)}") from error


def _said(error: Exception) -> str:
    text = readable(str(error))
    if isinstance(error, DamagedError):
        return f"{text}, {WANTED}"
    if isinstance(error, ValueError):
        return text
    return f"found something that cannot be read ({type(error).__name__}: {text}), {WANTED}"
