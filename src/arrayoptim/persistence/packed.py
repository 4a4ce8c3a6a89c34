"""Many small arrays in few datasets.

HDF5 needs hundreds of bytes and some hundred microseconds per dataset. If an optimizer has
thousands of arrays, the small ones are concatenated: the group ``packed`` has datasets of one dtype
each, and ``index``, which describes their content in JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from .hdf5 import put_array
from .reader import Group
from .stored import Stored
from .worker_thread import Ask

GROUP = "packed"
INDEX = "index"
MANY = 4096
"""Maximum number of arrays that get one dataset each, as Keras reads them."""

SMALL = 2**16
"""Maximum size of a packed array, in bytes."""

FULL = 2**26
"""Size at which a dataset of packed arrays is full, in bytes."""

FETCHED = 2**22
"""Bytes of arrays that are fetched before any is written."""

AT_ONCE = 1024

Named = tuple[str, str, Callable[[], np.ndarray]]
"""Slot, parameter, and a function that returns the array."""


@dataclass
class _Pending:
    """Arrays of one slot and one dtype that are not yet written."""

    slot: str
    dtype: str
    arrays: list[np.ndarray]
    paths: list[str]
    size: int = 0


class Packer:
    """Writes arrays into a group.

    Parameters
    ----------
    group : h5py.Group
        The optimizer's group.
    ask : callable
        Calls a function in the thread that may fetch arrays.
    put_large : callable
        Writes an array too large to be packed, given slot and parameter.
    """

    def __init__(
        self, group: Any, ask: Ask, put_large: Callable[[str, str, np.ndarray], None]
    ) -> None:
        self._group, self._ask, self._put_large = group, ask, put_large
        self._parts: dict[tuple[str, str], _Pending] = {}
        self._tables: dict[str, int] = {}
        self._columns: list[dict[str, Any]] = []

    def put(self, named: Iterable[Named]) -> Iterator[None]:
        """Write arrays, and yield after every few.

        Parameters
        ----------
        named : iterable of (str, str, callable)
            Slot, parameter, and a function that returns the array.
        """
        left = iter(named)
        while fetched := self._ask(lambda: _next_few(left)):
            for slot, path, array in fetched:
                if array.nbytes > SMALL:
                    self._put_large(slot, path, array)
                else:
                    self._pack(slot, path, array)
            yield
        for part in list(self._parts.values()):
            self._write(part)
        index = {"tables": [json.loads(text) for text in self._tables], "columns": self._columns}
        raw = np.frombuffer(json.dumps(index, separators=(",", ":")).encode(), np.uint8)
        put_array(self._group, f"{GROUP}/{INDEX}", raw, {})

    def _pack(self, slot: str, path: str, array: np.ndarray) -> None:
        key = slot, array.dtype.name
        part = self._parts.setdefault(key, _Pending(*key, [], []))
        part.arrays.append(array)
        part.paths.append(path)
        part.size += array.nbytes
        if part.size >= FULL:
            self._write(part)

    def _write(self, part: _Pending) -> None:
        del self._parts[part.slot, part.dtype]
        table = {"paths": part.paths, "shapes": [list(x.shape) for x in part.arrays]}
        text = json.dumps(table)
        number = self._tables.setdefault(text, len(self._tables))
        name = f"{GROUP}/{len(self._columns)}"
        put_array(self._group, name, np.concatenate([x.ravel() for x in part.arrays]), {})
        self._columns.append({"slot": part.slot, "table": number})


def _next_few(left: Iterator[Named]) -> list[tuple[str, str, np.ndarray]]:
    found, size = [], 0
    for slot, path, fetch in islice(left, AT_ONCE):
        array = np.asarray(fetch(), order="C")
        found.append((slot, path, array))
        size += array.nbytes
        if size >= FETCHED:
            break
    return found


class _Column:
    """A dataset of packed arrays, which is read as a whole."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self._array: np.ndarray | None = None

    def read(self) -> np.ndarray:
        if self._array is None:
            self._array = self.stored.read()
        return self._array


class Packed:
    """One packed array; see `Stored`.

    Parameters
    ----------
    column : object
        Its dataset.
    start : int
        The offset of its first element.
    shape : tuple of int
        Its shape.
    """

    __slots__ = ("_column", "_start", "shape")

    def __init__(self, column: _Column, start: int, shape: tuple[int, ...]) -> None:
        self._column, self._start, self.shape = column, start, shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype."""
        return self._column.stored.dtype

    @property
    def nbytes(self) -> int:
        """The size once read."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> np.ndarray:
        """Return the content, as a view of memory shared with its neighbours."""
        end = self._start + math.prod(self.shape)
        return self._column.read()[self._start : end].reshape(self.shape)


def unpacked(group: Group) -> Iterator[tuple[str, str, Packed]]:
    """Yield slot, parameter and array of each array written by `Packer`.

    Parameters
    ----------
    group : Group
        The optimizer's group.

    Raises
    ------
    ValueError
        If the index is invalid, or does not match the datasets.
    """
    stored = Stored(group, f"{GROUP}/{INDEX}")
    if stored.dtype != np.uint8 or len(stored.shape) != 1:
        raise ValueError(f"{stored.name}: found {stored.dtype}{list(stored.shape)}, wanted JSON")
    try:
        index = json.loads(stored.read().tobytes())
        tables = [_table(each["paths"], each["shapes"]) for each in index["tables"]]
        columns = [(str(c["slot"]), tables[int(c["table"])]) for c in index["columns"]]
    except (LookupError, TypeError, RecursionError, ValueError) as error:
        raise ValueError(f"{stored.name}: found no index of arrays ({error})") from error
    if sum(len(table) for _, table in columns) > group.file.source.size:
        raise ValueError(f"{stored.name}: found more arrays than there are bytes")
    for number, (slot, table) in enumerate(columns):
        column = _Column(Stored(group, f"{GROUP}/{number}"))
        wanted = sum(math.prod(shape) for _, shape in table)
        if column.stored.shape != (wanted,):
            raise ValueError(
                f"{column.stored.name}: found the shape {column.stored.shape}, wanted {(wanted,)} "
                f"for {len(table)} arrays"
            )
        start = 0
        for path, shape in table:
            yield slot, path, Packed(column, start, shape)
            start += math.prod(shape)


def _table(paths: list[Any], shapes: list[Any]) -> list[tuple[str, tuple[int, ...]]]:
    return [_entry(*row) for row in zip(paths, shapes, strict=True)]


def _entry(path: Any, shape: Any) -> tuple[str, tuple[int, ...]]:
    if not isinstance(path, str) or not isinstance(shape, list):
        raise TypeError(f"found {path!r} and {shape!r}")
    if not all(type(n) is int and n >= 0 for n in shape):
        raise TypeError(f"found the shape {shape!r}")
    return path, tuple(shape)
