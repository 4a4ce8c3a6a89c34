"""Opening a path, or an open h5py file, and finding the root of its content."""

from __future__ import annotations

import io
import json
import os
import stat
import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..config.registry import refuse_nested
from .limits import SMALL, affordable
from .reader import File, Group, opened

ZIP = b"PK\x03\x04"
MEMBER = "model.weights.h5"
CONFIG = "config.json"
PIECE = 2**20

IN_MEMORY = 2**26
"""Maximum bytes of an archive member unpacked into memory instead of a temporary file."""


def open_root(raw: Any, name: str, stack: ExitStack) -> tuple[Group, Any]:
    """Return the root of a file, and Keras 3's description of the optimizer if there is one.

    Parameters
    ----------
    raw : file object
        An open HDF5 file or archive of Keras 3.
    name : str
        Its name in messages.
    stack : ExitStack
        Closes what is opened here.

    Raises
    ------
    ValueError
        If it is neither.
    """
    found = os.fstat(raw.fileno())
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("found a device or pipe, wanted a regular file")
    size, start = found.st_size, raw.read(len(ZIP))
    if not start:
        raise ValueError("found an empty file, wanted an HDF5 or .keras file")
    if start == ZIP:
        return _archived(raw, size, name, stack)
    return opened(raw, size, name), None


def open_file(path: Path) -> Any:
    """Open a file for reading, without waiting for the writer of a pipe.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    OSError
        If it does not exist, or is a directory.
    """
    flags = getattr(os, "O_NONBLOCK", 0)
    return open(path, "rb", opener=lambda name, wanted: os.open(name, wanted | flags))


def _archived(raw: Any, size: int, name: str, stack: ExitStack) -> tuple[Group, Any]:
    archive = stack.enter_context(zipfile.ZipFile(raw))
    names = archive.namelist()
    if MEMBER not in names:
        raise ValueError(f"found an archive of {names[:5]}, wanted {MEMBER} in it")
    optimizer = None
    if CONFIG in names:
        text = io.BytesIO()
        _unpack(archive, archive.getinfo(CONFIG), text, SMALL)
        config = json.loads(text.getvalue())
        refuse_nested(config, CONFIG)
        compiled = config.get("compile_config") or {}
        optimizer = compiled.get("optimizer")
    inside = archive.getinfo(MEMBER)
    content: Any = io.BytesIO()
    if inside.file_size > IN_MEMORY:
        content = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    _unpack(archive, inside, content)
    return opened(content, inside.file_size, name), optimizer


def _unpack(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, into: Any, most: int | None = None
) -> None:
    """Copy a member; zipfile verifies its checksum at the end."""
    name, size, packed = member.filename, member.file_size, member.compress_size
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"found {name} packed by method {member.compress_type}, wanted deflate")
    if not affordable(packed, size) or size > (most or size):
        raise ValueError(
            f"found {name} of {size:,} bytes, packed into {packed:,}: too tightly to be a model; "
            "pack it anew without compression, if it is"
        )
    with archive.open(member) as content:
        left = size
        while piece := content.read(PIECE):
            left -= len(piece)
            into.write(piece)
    if left:
        raise ValueError(f"found {size - left:,} bytes of {name}, wanted {size:,}")


class _Handle(io.RawIOBase):
    """A file opened by someone else, read without moving its position."""

    def __init__(self, handle: int) -> None:
        self._handle, self._at = handle, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, at: int, whence: int = 0, /) -> int:
        self._at = at
        return at

    def readinto(self, buffer: Any, /) -> int:
        found = os.preadv(self._handle, [buffer], self._at)
        self._at += found
        return found


def open_group(group: Any) -> Group:
    """Return a group of a file that h5py has open.

    Parameters
    ----------
    group : h5py.Group
        The group.

    Raises
    ------
    ValueError
        If the content written by h5py cannot be read.
    """
    from h5py import h5o

    file = group.file
    file.flush()
    raw: Any
    image: bytes | None = None
    if file.driver == "sec2" and hasattr(os, "preadv"):
        handle = file.id.get_vfd_handle()
        raw, size = io.BufferedReader(_Handle(handle)), os.fstat(handle).st_size
    else:
        try:
            image = file.id.get_file_image()
        except RuntimeError as error:
            raise ValueError(
                f"found a file that h5py has open with driver={file.driver!r}, which keeps no "
                "single file; copy the group into one of another driver to read it"
            ) from error
        raw, size = io.BytesIO(image), len(image)
    found: File = opened(raw, size, file.filename, image=image is not None).file
    return Group(found, h5o.get_info(group.id).addr, group.name or "/")
