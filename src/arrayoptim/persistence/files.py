"""Everything accepted as a file: a path, an open file, or an open h5py file or group."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from . import reading, writing
from .distributed import written
from .own_format import GROUP
from .record import Record

__all__ = [
    "Place",
    "describe",
    "describe_with",
    "opened",
    "path_of",
    "read",
    "read_with",
    "write",
    "write_group",
]

Place: TypeAlias = Any
"""A str, bytes or Path, a file object open in binary mode, or an ``h5py.Group``."""

OTHERS = frozenset(
    {".ckpt", ".csv", ".json", ".keras", ".msgpack", ".npy", ".npz", ".onnx", ".pickle", ".pkl"}
    | {".pt", ".pth", ".safetensors", ".zip"}
)
"""Suffixes of files of other formats."""

WANTED = "a path, a file open in binary mode, or an open file or group of h5py"


def write(
    place: Place,
    record: Record,
    overwrite: bool = True,
    beside: Mapping[str, Record] | None = None,
) -> None:
    """Write a record to a file, atomically; see `writing.write`.

    A file object is written from its current position, in one piece and only once the content is
    complete.

    Raises
    ------
    FileExistsError
        If the file, or a state in the group, exists and `overwrite` is False.
    TypeError
        If `place` is not a file, or not open in binary mode.
    """
    if record.together is not None:
        whole = {"": record, **(beside or {})}

        def put(asked: Mapping[str, Record]) -> None:
            more = {name: each for name, each in asked.items() if name}
            write(place, asked[""], overwrite, more or None)

        written(record.together, whole, put)
        return
    if _is_group(place) and beside:
        raise TypeError(f"found {place!r}, wanted a path or a file open in binary mode")
    if _is_group(place):
        if GROUP in place and not overwrite:
            raise FileExistsError(f"{place.file.filename} {place.name} has a group {GROUP}")
        writing.write_group(place, record)
    elif hasattr(place, "write"):
        memory = io.BytesIO()
        writing.fill_file(memory, record, beside)
        try:
            place.write(memory.getbuffer())
        except TypeError as error:
            raise TypeError(f"found {place!r}, wanted one open in binary mode ({error})") from None
    else:
        path = path_of(place)
        refuse_name(path)
        writing.write(path, record, overwrite, beside)


def write_group(group: Any, record: Record) -> None:
    """Write a record into an open HDF5 file; see `writing.write_group`."""
    if record.together is None:
        writing.write_group(group, record)
        return
    written(record.together, {"": record}, lambda asked: writing.write_group(group, asked[""]))


def read(place: Place) -> Record:
    """Read the optimizer state in a file; see `reading.read`."""
    return _read(place, reading.read)


def describe(place: Place) -> Record:
    """Read all but the arrays; see `reading.describe`."""
    return _read(place, reading.describe)


def read_with(place: Place, name: str) -> tuple[Record, Record]:
    """Read an optimizer's record and one beside it; see `reading.read_with`."""
    own, beside = _from_file(place, lambda path: reading.read_with(path, name))
    assert beside is not None
    return own, beside


def describe_with(place: Place, name: str) -> tuple[Record, Record | None]:
    """Read all but the arrays of both; see `reading.describe_with`."""
    return _from_file(place, lambda path: reading.describe_with(path, name))


def refuse_name(path: Path) -> None:
    """Raise if a file name has the suffix of another format.

    Raises
    ------
    ValueError
        If it does.
    """
    if path.suffix.lower() in OTHERS:
        raise ValueError(
            f"{path}: this file will be HDF5, and {path.suffix} says that it is another; name it "
            f"{path.with_suffix('.h5').name}"
        )


def path_of(place: Place) -> Path:
    """Return a path given as str, bytes or path object.

    Raises
    ------
    TypeError
        If it is not a path.
    """
    try:
        return Path(os.fsdecode(place))
    except TypeError:
        raise TypeError(f"found {place!r}, wanted {WANTED}") from None


def _is_group(place: Place) -> bool:
    if not hasattr(place, "create_group"):
        return False
    if not place:
        raise ValueError(f"found {place!r}, wanted a file or group that h5py has open")
    return hasattr(place, "attrs")


@contextmanager
def opened(place: Place) -> Iterator[Record]:
    """Yield the record in a file, with lazily read arrays.

    Only arrays in use are in memory; the file stays open until the end.
    """
    if _is_group(place):
        with reading.opened_group(place) as record:
            yield record
        return
    with ExitStack() as stack:
        path, origin = stack.enter_context(_path(place))
        with _called(path, origin):
            record = stack.enter_context(reading.opened(path))
        yield replace(record, origin=origin)


def _read(place: Place, way: Callable[[Path], Record]) -> Record:
    if _is_group(place):
        return reading.read_group(place)
    return _from_file(place, lambda path: (way(path), None))[0]


def _from_file(
    place: Place, way: Callable[[Path], tuple[Record, Record | None]]
) -> tuple[Record, Record | None]:
    with _path(place) as (path, origin), _called(path, origin):
        own, beside = way(path)
        return replace(own, origin=origin), beside and replace(beside, origin=origin)


@contextmanager
def _path(place: Place) -> Iterator[tuple[Path, str]]:
    """Yield the path of a file, and its name in messages."""
    if not hasattr(place, "read"):
        path = path_of(place)
        yield path, str(path)
        return
    with _on_disk(place) as path:
        yield path, str(getattr(place, "name", None) or f"this {type(place).__name__}")


@contextmanager
def _called(path: Path, origin: str) -> Iterator[None]:
    """Make errors name the file as the user passed it."""
    try:
        yield
    except ValueError as error:
        if origin == str(path):
            raise
        raise ValueError(str(error).replace(str(path), origin)) from error


@contextmanager
def _on_disk(place: Any) -> Iterator[Path]:
    """Yield the path of a file with the content of a file object from its current position."""
    content = place.read()
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(f"found {place!r}, wanted one open in binary mode")
    if not content:
        raise ValueError(f"{place!r} is at its end; seek(0) goes back to the start")
    handle, name = tempfile.mkstemp(prefix="arrayoptim-", suffix=".h5")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        yield Path(name)
    finally:
        Path(name).unlink()
