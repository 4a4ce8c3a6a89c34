"""Data types and shapes, as encoded by HDF5."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .source import Cursor, DamagedError, width

FIXED, FLOAT, STRING, BITS, OPAQUE, COMPOUND, REFERENCE, ENUM, VLEN, ARRAY = (
    0,
    1,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
)
MOST_MEMBERS = 256
DEEPEST = 4
FLOATS = {
    # size: positions and sizes of exponent and mantissa, and the exponent's bias
    2: (10, 5, 0, 10, 15),
    4: (23, 8, 0, 23, 127),
    8: (52, 11, 0, 52, 1023),
}


@dataclass(frozen=True)
class Type:
    """A data type.

    Attributes
    ----------
    size : int
        Size of an element in the file, in bytes.
    dtype : numpy.dtype or None
        The corresponding NumPy dtype; None if there is none.
    heap : bool
        Whether elements are variable-length strings, stored elsewhere in the file.
    """

    size: int
    dtype: np.dtype[np.generic] | None = None
    heap: bool = False


def datatype(body: Cursor, depth: int = 0) -> Type:
    """Return the data type in a message.

    Parameters
    ----------
    body : Cursor
        The message; advanced past the type.
    depth : int
        Nesting depth of this type.
    """
    if depth > DEEPEST:
        raise DamagedError("found a data type made of too many others")
    head = body.number(1)
    version, kind = head >> 4, head & 15
    bits, size = body.number(3), body.number(4)
    if not 1 <= version <= 5 or size == 0:
        raise DamagedError(f"found a data type of version {version} and {size} bytes")
    big = ">" if bits & 1 else "<"
    if kind == FIXED:
        offset, precision = body.number(2), body.number(2)
        whole = offset == 0 and precision == 8 * size and size in (1, 2, 4, 8)
        sign = "i" if bits & 8 else "u"
        return Type(size, np.dtype(f"{big}{sign}{size}") if whole else None)
    if kind == FLOAT:
        offset, precision = body.number(2), body.number(2)
        parts = tuple(body.number(n) for n in (1, 1, 1, 1, 4))
        whole = offset == 0 and precision == 8 * size and FLOATS.get(size) == parts
        return Type(size, np.dtype(f"{big}f{size}") if whole and not bits & 0x40 else None)
    if kind == STRING:
        return Type(size, np.dtype(f"S{size}"))
    if kind == OPAQUE:
        body.raw(bits & 0xFF)
        return Type(size, np.dtype(f"V{size}"))
    if kind == COMPOUND:
        return _compound(body, version, bits & 0xFFFF, size, depth)
    if kind == ENUM:
        return _enumeration(body, version, bits & 0xFFFF, depth)
    if kind == VLEN:
        datatype(body, depth + 1)
        return Type(size, heap=bits & 15 == 1 and size == 16)
    if kind == BITS:
        body.raw(4)
    elif kind == ARRAY:
        rank = body.number(1)
        body.raw(3 * (version < 3) + 4 * rank + 4 * rank * (version < 3))
        datatype(body, depth + 1)
    elif kind != REFERENCE:
        raise DamagedError(f"found a data type of class {kind}, wanted numbers or text")
    return Type(size)


def _name(body: Cursor, version: int) -> bytes:
    end = body.data.find(b"\0", body.at)
    if end < 0:
        raise DamagedError("found a name without end")
    start, size = body.at, end - body.at
    body.raw(size + 1 if version >= 3 else (size + 8) // 8 * 8)
    return body.data[start:end]


def _compound(body: Cursor, version: int, count: int, size: int, depth: int) -> Type:
    if not 1 <= count <= MOST_MEMBERS:
        raise DamagedError(f"found a data type of {count} parts")
    members = []
    for _ in range(count):
        name = _name(body, version)
        offset = body.number(4 if version < 3 else width(size))
        if version == 1:
            body.raw(28)
        members.append((name, offset, datatype(body, depth + 1)))
    # A complex number, as h5py writes it.
    if [name for name, _, _ in members] == [b"r", b"i"]:
        kinds, offsets = {m.dtype for _, _, m in members}, [at for _, at, _ in members]
        for part in kinds if len(kinds) == 1 else ():
            if part is not None and part.kind == "f" and part.itemsize >= 4:
                pair = np.dtype(f"{part.byteorder.replace('=', '<')}c{2 * part.itemsize}")
                if offsets == [0, part.itemsize] and size == pair.itemsize:
                    return Type(size, pair)
    return Type(size)


def _enumeration(body: Cursor, version: int, count: int, depth: int) -> Type:
    base = datatype(body, depth + 1)
    if count > MOST_MEMBERS:
        raise DamagedError(f"found an enumeration of {count} names")
    names = [_name(body, version) for _ in range(count)]
    values = body.raw(count * base.size)
    # A boolean, as h5py writes it.
    if names == [b"FALSE", b"TRUE"] and values == b"\0\1":
        return Type(1, np.dtype(bool))
    return base


def extent(body: Cursor) -> tuple[int, ...] | None:
    """Return the shape in a message; None for a null dataspace.

    Parameters
    ----------
    body : Cursor
        The message.
    """
    version, rank, flags = body.number(1), body.number(1), body.number(1)
    if version not in (1, 2) or rank > 32:
        raise DamagedError(f"found a shape of version {version} and {rank} dimensions")
    kind = body.number(1) if version == 2 else 1
    if version == 1:
        body.raw(5)
    shape = tuple(body.number(8) for _ in range(rank))
    if flags & 1:
        body.raw(8 * rank)
    if kind == 2:
        return None
    if math.prod(shape) >= 2**62:
        raise DamagedError(f"found the shape {shape}")
    return shape
