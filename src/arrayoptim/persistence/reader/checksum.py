"""The checksum of HDF5 metadata: Bob Jenkins's lookup3, in the public domain."""

from __future__ import annotations

import struct

from .source import DamagedError

_M = 0xFFFFFFFF


def lookup3(data: bytes) -> int:
    """Return the checksum of bytes.

    Parameters
    ----------
    data : bytes
        The bytes.
    """
    size = len(data)
    a = b = c = (0xDEADBEEF + size) & _M
    if not size:
        return c
    last = (size - 1) // 12 * 12
    words: tuple[int, ...] = struct.unpack(f"<{last // 4}I", data[:last])
    for place in range(0, len(words), 3):
        a = (a + words[place]) & _M
        b = (b + words[place + 1]) & _M
        c = (c + words[place + 2]) & _M
        a = (a - c) & _M ^ (c << 4 & _M | c >> 28)
        c = (c + b) & _M
        b = (b - a) & _M ^ (a << 6 & _M | a >> 26)
        a = (a + c) & _M
        c = (c - b) & _M ^ (b << 8 & _M | b >> 24)
        b = (b + a) & _M
        a = (a - c) & _M ^ (c << 16 & _M | c >> 16)
        c = (c + b) & _M
        b = (b - a) & _M ^ (a << 19 & _M | a >> 13)
        a = (a + c) & _M
        c = (c - b) & _M ^ (b << 4 & _M | b >> 28)
        b = (b + a) & _M
    tail: tuple[int, ...] = struct.unpack("<3I", data[last:].ljust(12, b"\0"))
    a, b, c = (a + tail[0]) & _M, (b + tail[1]) & _M, (c + tail[2]) & _M
    c = ((c ^ b) - (b << 14 & _M | b >> 18)) & _M
    a = ((a ^ c) - (c << 11 & _M | c >> 21)) & _M
    b = ((b ^ a) - (a << 25 & _M | a >> 7)) & _M
    c = ((c ^ b) - (b << 16 & _M | b >> 16)) & _M
    a = ((a ^ c) - (c << 4 & _M | c >> 28)) & _M
    b = ((b ^ a) - (a << 14 & _M | a >> 18)) & _M
    return ((c ^ b) - (b << 24 & _M | b >> 8)) & _M


def verified(data: bytes) -> bytes:
    """Return a metadata block without its trailing checksum.

    Parameters
    ----------
    data : bytes
        The block.

    Raises
    ------
    DamagedError
        If the checksum does not match.
    """
    content, found = data[:-4], data[-4:]
    if len(found) < 4 or lookup3(content) != int.from_bytes(found, "little"):
        raise DamagedError("found a description with a wrong checksum")
    return content
