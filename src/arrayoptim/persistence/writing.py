"""Writing: to a new file, or into an open one."""

from __future__ import annotations

import os
import posixpath
import uuid
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from .atomic import Sink, replace_file
from .inplace import written_again
from .own_format import GROUP, fill
from .record import Record
from .worker_thread import Ask


def write(
    path: str | os.PathLike[str],
    record: Record,
    overwrite: bool = True,
    beside: Mapping[str, Record] | None = None,
) -> None:
    """Write a record to an HDF5 file, atomically.

    The content goes to a temporary file in the same directory, is synced to disk and renamed:
    whatever happens, the previous file stays intact until the new one is complete. Owner and
    permissions of an existing file are kept, and a symbolic link is followed. Leftovers of killed
    saves to the same file are removed.

    Parameters
    ----------
    path : str or Path
        The file.
    record : Record
        The content. Its slots may contain functions that return arrays; `source` and `notes` are
        not written.
    overwrite : bool
        Whether an existing file may be replaced.
    beside : mapping of str to Record, optional
        Additional records by the name of their group; `read_with` reads them.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.
    FileNotFoundError
        If its directory does not exist.
    OSError
        If it cannot be written, for instance on a full disk.
    ValueError
        If the record is inconsistent, or not representable in HDF5.
    """

    def put(sink: Sink, ask: Ask) -> None:
        fill_file(sink, record, beside, ask, sink.check)

    replace_file(path, put, overwrite)


def fill_file(
    file: BinaryIO,
    record: Record,
    beside: Mapping[str, Record] | None = None,
    ask: Ask = lambda function: function(),
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """Write a record, and those beside it, into an empty open file; see `write`."""
    import h5py

    # HDF5 1.8's format has checksums of all metadata, and Keras 2.0's h5py reads it.
    with h5py.File(file, "w", libver=("v108", "v108")) as root:
        for name, content in {GROUP: record, **(beside or {})}.items():
            fill(root.create_group(name), content, ask, after_each)


def write_group(group: Any, record: Record) -> None:
    """Write a record into an open HDF5 file.

    If the group already has state with the same arrays, its datasets are overwritten, so that the
    file does not grow; otherwise the state is written to a temporary group and moved. A failure to
    fetch an array leaves the old state intact.

    Parameters
    ----------
    group : h5py.Group
        A file or group, whose child ``optimizer_weights`` is created or replaced; or a group with
        that name itself, whose content is replaced.
    record : Record
        The content, as for `write`.

    Raises
    ------
    ValueError
        If the record is inconsistent, or not representable in HDF5.
    """
    own = posixpath.basename(group.name or "") == GROUP
    parent = group.parent if own else group
    there = group if own else group.get(GROUP)
    if there is not None and "format" in there.attrs and written_again(there, record):
        return
    name = f"{GROUP}-{uuid.uuid4().hex}"
    new = parent.create_group(name)
    try:
        fill(new, record)
    except BaseException:
        del parent[name]
        raise
    if own:
        _move_content(new, group)
        del parent[name]
    else:
        if GROUP in parent:
            del parent[GROUP]
        parent.move(name, GROUP)


def _move_content(source: Any, target: Any) -> None:
    """Replace the content of a group with that of another."""
    for name in list(target.attrs):
        del target.attrs[name]
    for name in list(target):
        del target[name]
    for name in list(source):
        source.move(name, f"{target.name}/{name}")
    for name, value in source.attrs.items():
        target.attrs[name] = value
