"""Loading object files into memory, like LLVM's loader, without the time to import LLVM.

It supports the files that LLVM writes for kernels on Linux x86-64, and leaves others to LLVM.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

_HEADER = b"\x7fELF\x02\x01\x01"
_RELOCATABLE, _X86_64 = 1, 62
_ALLOCATED, _NO_BITS, _RELA, _SYMBOLS = 2, 8, 4, 2
_ABSOLUTE = 1
_UNDEFINED, _RESERVED = 0, 0xFF00
_READ, _WRITE, _EXECUTE, _PRIVATE, _ANONYMOUS = 1, 2, 4, 0x02, 0x20


class _UnknownError(Exception):
    """The file has a feature that this loader does not support."""


@dataclass(frozen=True)
class _Section:
    name: str
    kind: int
    flags: int
    start: int
    size: int
    link: int
    info: int
    alignment: int


def load(content: bytes, function: str) -> int | None:
    """Load an object file into executable memory, for the lifetime of the process.

    Parameters
    ----------
    content : bytes
        The file.
    function : str
        The name of a function in it.

    Returns
    -------
    int or None
        The address of the function; None if this loader does not support the file.
    """
    known = content.startswith(_HEADER) and sys.platform == "linux"
    if not known or struct.unpack_from("<HH", content, 16) != (_RELOCATABLE, _X86_64):
        return None
    try:
        return _loaded(content, function)
    except (_UnknownError, OSError, ValueError, struct.error, IndexError):
        return None


def _loaded(content: bytes, function: str) -> int:
    sections = list(_sections(content))
    offsets, size = {}, 0
    for k, section in enumerate(sections):
        if section.flags & _ALLOCATED and section.name != ".eh_frame":
            step = max(section.alignment, 16)
            offsets[k] = size = -(-size // step) * step
            size += section.size
    image, place = bytearray(size), _reserved(size)
    for k, offset in offsets.items():
        section = sections[k]
        if section.kind != _NO_BITS:
            image[offset : offset + section.size] = content[section.start :][: section.size]
    starts = {k: place + offset for k, offset in offsets.items()}
    for table in sections:
        if table.kind == _RELA and table.info in offsets:
            symbols = list(_symbols(content, sections, sections[table.link], starts))
            for at in range(table.start, table.start + table.size, 24):
                where, what, addend = struct.unpack_from("<QQq", content, at)
                if what & 0xFFFFFFFF != _ABSOLUTE:
                    raise _UnknownError
                _, target = symbols[what >> 32]
                if target is None:
                    raise _UnknownError
                struct.pack_into("<Q", image, offsets[table.info] + where, target + addend)
    (found,) = (
        address
        for table in sections
        if table.kind == _SYMBOLS
        for name, address in _symbols(content, sections, table, starts)
        if name == function
    )
    ctypes.memmove(place, bytes(image), size)
    if found is None or _library().mprotect(place, size, _READ | _EXECUTE):
        raise _UnknownError
    return found


def _sections(content: bytes) -> Iterator[_Section]:
    (table,) = struct.unpack_from("<Q", content, 40)
    size, count, names = struct.unpack_from("<HHH", content, 58)
    rows = [struct.unpack_from("<IIQQQQIIQQ", content, table + k * size) for k in range(count)]
    text = rows[names][4]
    for name, kind, flags, _, start, length, link, info, alignment, _ in rows:
        yield _Section(
            _text(content, text + name), kind, flags, start, length, link, info, alignment
        )


def _symbols(
    content: bytes, sections: list[_Section], table: _Section, starts: dict[int, int]
) -> Iterator[tuple[str, int | None]]:
    """Yield the symbols of a table: the name of each, and its address if it has one."""
    text = sections[table.link].start
    for at in range(table.start, table.start + table.size, 24):
        offset, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", content, at)
        name = _text(content, text + offset)
        if section == _UNDEFINED:
            yield name, _outside(name) if name else None
        else:
            yield name, starts[section] + value if section in starts else None


def _text(content: bytes, start: int) -> str:
    return content[start : content.index(b"\0", start)].decode()


def _outside(name: str) -> int | None:
    function = getattr(_library(), name, None)
    return ctypes.cast(function, ctypes.c_void_p).value if function else None


def _reserved(size: int) -> int:
    place = _library().mmap(None, max(size, 1), _READ | _WRITE, _PRIVATE | _ANONYMOUS, -1, 0)
    if place in (None, ctypes.c_void_p(-1).value):
        raise OSError
    return int(place)


@cache
def _library() -> Any:
    library = ctypes.CDLL(None)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
        *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
    )
    library.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return library
