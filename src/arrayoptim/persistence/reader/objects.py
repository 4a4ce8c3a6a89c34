"""Shared parts of all objects in a file, and their attributes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from . import headers
from .btrees import records
from .headers import Message, messages
from .heaps import FractalHeap, decoded, global_heap
from .source import UNDEFINED, Cursor, DamagedError, Source
from .types import Type, datatype, extent

ATTRIBUTE_RECORDS = 8


class Objects:
    """Shared parts of all objects in a file.

    Parameters
    ----------
    source : Source
        The file.
    name : str
        The file's name in messages.
    """

    def __init__(self, source: Source, name: str) -> None:
        self.source, self.name = source, name
        self._heaps: dict[int, dict[int, bytes]] = {}

    def text(self, raw: bytes) -> str:
        """Return a variable-length string.

        Parameters
        ----------
        raw : bytes
            The 16 bytes that refer to it.
        """
        place = Cursor(raw)
        length, address, number = place.number(4), place.number(8), place.number(4)
        if length == 0:
            return ""
        if address not in self._heaps:
            self._heaps[address] = global_heap(self.source, address)
        found = self._heaps[address].get(number)
        if found is None or len(found) < length:
            raise DamagedError(f"found no text of {length} bytes where an attribute says so")
        return decoded(found[:length])

    def messages(self, address: int) -> list[Message]:
        """Return the messages of an object, with shared messages resolved.

        Parameters
        ----------
        address : int
            The object's header.
        """
        return messages(self.source, address)

    def resolved(self, flags: int, body: bytes, kind: int) -> bytes:
        """Return the body of a message that may be stored elsewhere.

        Parameters
        ----------
        flags : int
            The message's flags.
        body : bytes
            The message's body.
        kind : int
            The message's type.
        """
        if not flags & headers.SHARED:
            return body
        place = Cursor(body)
        version, form = place.number(1), place.number(1)
        if version == 1:
            place.raw(6)
        if version == 3 and form != 2:
            raise DamagedError("found a description in a table that is not read here")
        for message in self.messages(place.number(8)):
            if message.kind == kind and not message.flags & headers.SHARED:
                return message.body
        raise DamagedError("found no data type where an object says that it is")


class Attributes(Mapping[str, Any]):
    """The attributes of an object, decoded on access.

    Parameters
    ----------
    file : Objects
        The file.
    found : list of Message
        The object's messages.
    """

    def __init__(self, file: Objects, found: list[Message]) -> None:
        self._file, self._raw = file, dict[str, tuple[Type, tuple[int, ...] | None, bytes]]()
        for message in found:
            if message.kind == headers.ATTRIBUTE:
                self._add(message.flags, message.body)
            elif message.kind == headers.ATTRIBUTE_INFO:
                self._add_many(Cursor(message.body))

    def _add_many(self, info: Cursor) -> None:
        info.raw(1)
        info.raw(2 * (info.number(1) & 1))
        heap, tree = info.number(8), info.number(8)
        if heap == UNDEFINED:
            return
        entries = FractalHeap(self._file.source, heap)
        for record in records(self._file.source, tree, ATTRIBUTE_RECORDS):
            self._add(record[8], entries.get(record[:8]))

    def _add(self, flags: int, raw: bytes) -> None:
        if flags & headers.SHARED:
            raise DamagedError("found an attribute in a table that is not read here")
        body = Cursor(raw)
        version, shared = body.number(1), body.number(1)
        sizes = [body.number(2) for _ in range(3)]
        if not 1 <= version <= 3:
            raise DamagedError(f"found an attribute of version {version}")
        body.raw(version == 3)
        parts = []
        for size in sizes:
            parts.append(body.raw(size))
            body.raw(-size % 8 if version == 1 else 0)
        name = decoded(parts[0].rstrip(b"\0"))
        if shared & 2:
            raise DamagedError("found a shape in a table that is not read here")
        described = self._file.resolved(shared * headers.SHARED, parts[1], headers.DATATYPE)
        kind, shape = datatype(Cursor(described)), extent(Cursor(parts[2]))
        if name in self._raw:
            raise DamagedError(f"found two attributes {name!r} of one object")
        self._raw[name] = kind, shape, raw[body.at :]

    def __getitem__(self, name: str) -> Any:
        """Return a value: a string, a number, or an array of numbers or strings."""
        kind, shape, raw = self._raw[name]
        if shape is None:
            return ""
        size = kind.size * math.prod(shape)
        if size > len(raw):
            raise DamagedError(f"attribute {name}: found {len(raw)} bytes, wanted {size}")
        if kind.heap:
            texts = [self._file.text(raw[at : at + 16]) for at in range(0, size, 16)]
            return texts if shape else texts[0]
        if kind.dtype is None:
            raise DamagedError(f"attribute {name}: found a type that is neither numbers nor text")
        array = np.ndarray(shape, kind.dtype, raw[:size])
        if kind.dtype.kind == "S":
            return [bytes(x) for x in array.ravel()] if shape else bytes(array[()])
        return array.copy() if shape else array[()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)
