"""Saving again into the same datasets of an open file, so that it does not grow.

HDF5 forgets free space when a file is closed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import json_config as _config
from .hdf5 import LIMIT, put_text
from .own_format import entries_of, written_in
from .record import Record


def written_again(group: Any, record: Record) -> bool:
    """Write a record into a group with the same arrays, if it has them; return whether it has.

    The arrays are first written to a temporary file, before the group changes; a later interrupt
    is raised once all of them are written.

    Parameters
    ----------
    group : h5py.Group
        The group.
    record : Record
        The content.

    Raises
    ------
    OSError
        If the file, or the temporary one, cannot be written.
    """
    text = None if record.config is None else _config.dumps(record.config)
    if not _holds(group, record) or (text is not None and len(text) > LIMIT):
        return False
    entries = list(entries_of(record, packed=False))
    folder = Path(group.file.filename).parent
    with tempfile.TemporaryFile(dir=folder if folder.is_dir() else None) as aside:
        for entry in entries:
            array = np.asarray(entry.array(), order="C")
            if not _fits(group[entry.link], array):
                return False
            aside.write(array.reshape(-1).view(np.uint8).data)
        aside.seek(0)
        acts: list[Callable[[], None]] = [_copying(group[e.link], aside) for e in entries]
        acts.append(lambda: _describe(group, record, text))
        _carry_out(acts)
    return True


def _holds(group: Any, record: Record) -> bool:
    """Whether a group has datasets for exactly these arrays, with the same attributes."""
    attributes = group.attrs
    if attributes.get("format") != 1 or written_in(record) != 1 or "unnamed" in attributes:
        return False
    entries = list(entries_of(record, packed=False))
    for name, listed in (("weight_names", True), ("extra_names", False)):
        wanted = [entry.link.encode() for entry in entries if entry.listed is listed]
        if name not in attributes or [bytes(x) for x in attributes[name]] != wanted:
            return False
    words = record.class_name, record.fingerprint
    found = (attributes.get(name) for name in ("class_name", "fingerprint"))
    same = all((f or b"") == (w or "").encode() for f, w in zip(found, words, strict=True))
    return same and all(entry.link in group for entry in entries) and record.config is not None


def _fits(dataset: Any, array: np.ndarray) -> bool:
    half = array.dtype.name == "bfloat16"
    kind = np.dtype(np.uint16) if half else array.dtype
    coded = dataset.attrs.get("dtype") == b"bfloat16"
    whole = dataset.chunks is None and not dataset.is_virtual and dataset.external is None
    return bool(whole and dataset.shape == array.shape and dataset.dtype == kind and coded == half)


def _copying(dataset: Any, aside: Any) -> Callable[[], None]:
    """Return a function that copies the next array into a dataset, and can be repeated."""
    start: list[int] = []

    def copy() -> None:
        if not start:
            start.append(aside.tell())
        aside.seek(start[0])
        array = np.empty(dataset.shape, dataset.dtype)
        aside.readinto(array.reshape(-1).view(np.uint8).data)
        if array.size:
            dataset.write_direct(array)

    return copy


def _describe(group: Any, record: Record, text: str | None) -> None:
    group.attrs["skipped"] = record.skipped
    if text is not None and group.attrs.get("config") != text.encode():
        if "config" in group.attrs:
            del group.attrs["config"]
        put_text(group.id, "config", text)


def _carry_out(acts: list[Callable[[], None]]) -> None:
    """Run all, and raise the first interrupt at the end."""
    raised: BaseException | None = None
    place = 0
    while place < len(acts):
        try:
            acts[place]()
            place += 1
        except Exception:
            raise
        except BaseException as error:
            raised = raised or error
    if raised is not None:
        raise raised
