"""Object headers: HDF5's metadata of a group or a dataset, as a list of messages."""

from __future__ import annotations

from dataclasses import dataclass

from .checksum import verified
from .source import Cursor, DamagedError, Source

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT = 0x01, 0x02, 0x03, 0x06, 0x07, 0x08
FILTERS, ATTRIBUTE, CONTINUATION, SYMBOLS, ATTRIBUTE_INFO = 0x0B, 0x0C, 0x10, 0x11, 0x15
SHARED = 0x02
MOST_BLOCKS = 4096


@dataclass(frozen=True)
class Message:
    """A message of an object header.

    Attributes
    ----------
    kind : int
        Its type.
    flags : int
        Its flags.
    body : bytes
        Its content.
    """

    kind: int
    flags: int
    body: bytes


def messages(source: Source, address: int) -> list[Message]:
    """Return the messages of an object.

    Parameters
    ----------
    source : Source
        The file.
    address : int
        The object's header.

    Raises
    ------
    DamagedError
        If it is not a header, or does not end.
    """
    head = source.take(address, min(16, max(0, source.size - address)))
    second = head[:4] == b"OHDR"
    read = _second if second else _first
    found, blocks, order = read(source, address, head)
    seen = {address}
    while blocks:
        at, size = blocks.pop(0)
        if at in seen or len(seen) > MOST_BLOCKS:
            raise DamagedError("found an object whose description goes on without end")
        seen.add(at)
        data = source.take(at, size)
        if second:
            body = Cursor(verified(data))
            body.expect(b"OCHK")
            more = _parse(body, order)
        else:
            more = _parse(Cursor(data), None)
        found += more
        blocks += _blocks(more)
    return found


Parsed = tuple[list[Message], list[tuple[int, int]], "int | None"]


def _first(source: Source, address: int, head: bytes) -> Parsed:
    start = Cursor(head)
    version, _, _, _, size = (start.number(n) for n in (1, 1, 2, 4, 4))
    if version != 1:
        raise DamagedError(f"found no description of an object at {address}")
    found = _parse(Cursor(source.take(address + 16, size)), None)
    return found, _blocks(found), None


def _second(source: Source, address: int, head: bytes) -> Parsed:
    start = Cursor(head, 4)
    version, flags = start.number(1), start.number(1)
    if version != 2:
        raise DamagedError(f"found an object in version {version} of its description, wanted 2")
    before = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
    length = 1 << (flags & 3)
    size = int.from_bytes(source.take(address + before, length), "little")
    before += length
    body = Cursor(verified(source.take(address, before + size + 4)), before)
    order = 2 if flags & 0x04 else 0
    found = _parse(body, order)
    return found, _blocks(found), order


def _parse(body: Cursor, order: int | None) -> list[Message]:
    """Return the messages in a block; `order` is the extra field of each in version 2 headers."""
    found, data = [], body.data
    head = 8 if order is None else 4 + order
    while body.at + head <= len(data):
        kind = body.number(2 if order is None else 1)
        size, flags = body.number(2), body.number(1)
        body.at += 3 if order is None else order
        found.append(Message(kind, flags, body.raw(size)))
    return found


def _blocks(found: list[Message]) -> list[tuple[int, int]]:
    places = [Cursor(message.body) for message in found if message.kind == CONTINUATION]
    return [(place.number(8), place.number(8)) for place in places]
