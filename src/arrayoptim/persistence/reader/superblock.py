"""The superblock: the start of a file, with the address of its root."""

from __future__ import annotations

from typing import Any

from .checksum import verified
from .nodes import File, Group
from .source import Cursor, DamagedError, Source

SIGNATURE = b"\x89HDF\r\n\x1a\n"


def signature_at(source: Source) -> int | None:
    """Return the offset of the superblock: 0, 512, or 512 times a power of two.

    Parameters
    ----------
    source : Source
        The file.
    """
    at = 0
    while at + 48 <= source.size:
        if source.take(at, 8) == SIGNATURE:
            return at
        at = 2 * at or 512
    return None


def opened(raw: Any, size: int, name: str, *, image: bool = False) -> Group:
    """Return the root of an HDF5 file.

    Parameters
    ----------
    raw : file object
        The file, open for reading.
    size : int
        Its size in bytes.
    name : str
        Its name in messages.
    image : bool
        Whether HDF5 has just created it from an open file: it then clears a flag in the superblock
        without updating the checksum.

    Raises
    ------
    DamagedError
        If it is not an HDF5 file, or is truncated.
    """
    source = Source(raw, 0, size)
    at = signature_at(source)
    if at is None:
        raise DamagedError("found no HDF5")
    head = Cursor(source.take(at, 48), 8)
    version = head.number(1)
    if version in (0, 1):
        head.raw(4)
        widths = head.number(1), head.number(1)
        head = Cursor(source.take(at, 24 + 4 * version + 72), 24 + 4 * version)
        base, _, end, _ = (head.number(8) for _ in range(4))
        head.raw(8)
    elif version in (2, 3):
        head = Cursor(head.data[:44] if image else verified(head.data[:48]), 9)
        widths = head.number(1), head.number(1)
        head.raw(1)
        base, _, end = (head.number(8) for _ in range(3))
    else:
        raise DamagedError(f"found version {version} of HDF5's superblock, wanted at most 3")
    root = head.number(8)
    if widths != (8, 8):
        raise DamagedError(f"found addresses of {widths[0]} bytes, wanted 8")
    if end > size or base > size:
        raise DamagedError(f"found {size} bytes, wanted {end}: the file is truncated")
    return File(Source(raw, base, size - base), root, name).root
