"""Bounds-checked access to the bytes of a file."""

from __future__ import annotations

from typing import Any

UNDEFINED = 2**64 - 1
"""The address that means "does not exist"."""


class DamagedError(ValueError):
    """The file contradicts itself, or its format."""


class Source:
    """A part of an open file, whose first byte has the address 0.

    All metadata is read through `take`, which counts bytes: a file with cyclic structures soon
    exceeds the limit.

    Parameters
    ----------
    raw : file object
        The file, open for reading in binary mode.
    start, size : int
        The range of the part.
    """

    def __init__(self, raw: Any, start: int, size: int) -> None:
        self._raw, self._start = raw, start
        self.size = size
        self._left = 8 * size + 2**20

    def take(self, address: int, count: int) -> bytes:
        """Return a range of bytes.

        Parameters
        ----------
        address, count : int
            The range.

        Raises
        ------
        DamagedError
            If they are not all there, or much more was read than the file contains.
        """
        if not (0 <= address <= self.size and 0 <= count <= self.size - address):
            raise DamagedError(f"found a part of {count} bytes at {address} of {self.size} bytes")
        self._left -= count + 16
        if self._left < 0:
            raise DamagedError("found parts that point at each other over and over")
        self._raw.seek(self._start + address)
        found: bytes = self._raw.read(count)
        if len(found) < count:
            raise DamagedError(f"found {len(found)} bytes at {address}, wanted {count}")
        return found

    def fill(self, address: int, buffer: memoryview) -> None:
        """Fill a whole buffer.

        Parameters
        ----------
        address : int
            The first byte.
        buffer : memoryview
            Bytes to fill.

        Raises
        ------
        DamagedError
            If there are too few bytes.
        """
        self.within(address, len(buffer))
        self._raw.seek(self._start + address)
        while buffer:
            count = self._raw.readinto(buffer)
            if not count:
                raise DamagedError(f"found the end of the file, wanted {len(buffer)} more bytes")
            buffer = buffer[count:]

    def within(self, address: int, count: int) -> None:
        """Raise if a range is not in the file.

        Parameters
        ----------
        address, count : int
            The range.

        Raises
        ------
        DamagedError
            If it is not.
        """
        if not (0 <= address <= self.size and 0 <= count <= self.size - address):
            raise DamagedError(f"found {count} bytes at {address} of a file of {self.size} bytes")


class Cursor:
    """A read position in bytes.

    Parameters
    ----------
    data : bytes
        The bytes.
    at : int
        The position.
    """

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def number(self, count: int) -> int:
        """Read an unsigned little-endian integer.

        Parameters
        ----------
        count : int
            Its size in bytes.
        """
        at, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise DamagedError(f"found {len(self.data)} bytes of a description, wanted {self.at}")
        return int.from_bytes(self.data[at : self.at], "little")

    def raw(self, count: int) -> bytes:
        """Read bytes.

        Parameters
        ----------
        count : int
            Number of bytes.
        """
        at, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise DamagedError(f"found {len(self.data)} bytes of a description, wanted {self.at}")
        return self.data[at : self.at]

    def expect(self, signature: bytes) -> None:
        """Raise if the next bytes are not a signature.

        Parameters
        ----------
        signature : bytes
            The signature.
        """
        if self.raw(len(signature)) != signature:
            raise DamagedError(f"found no {signature.decode()!r} where the file says that it is")


def log2(number: int) -> int:
    """Return the logarithm of a power of two.

    Parameters
    ----------
    number : int
        The power.

    Raises
    ------
    DamagedError
        If it is not a power of two.
    """
    if number <= 0 or number & (number - 1):
        raise DamagedError(f"found a size of {number}, wanted a power of two")
    return number.bit_length() - 1


def width(limit: int) -> int:
    """Return the number of bytes that HDF5 uses for integers up to a limit.

    Parameters
    ----------
    limit : int
        The limit.
    """
    return (max(limit, 1).bit_length() - 1) // 8 + 1
