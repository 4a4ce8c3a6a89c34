"""Groups, datasets and their attributes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from . import headers
from .data import Storage, stored
from .headers import Message, messages
from .heaps import FractalHeap, decoded, global_heap, local_heap, text_at
from .source import UNDEFINED, Cursor, DamagedError, Source
from .trees import GROUP_NODES, old_leaves, records
from .types import Type, datatype, extent

LINK_RECORDS, ATTRIBUTE_RECORDS = 5, 8
MOST_LINKS = 16
"""Largest number of soft links that lead to one another."""


class File:
    """What all objects of a file share.

    Parameters
    ----------
    source : Source
        The file.
    root : int
        The address of the root group's header.
    name : str
        What messages call the file.
    """

    def __init__(self, source: Source, root: int, name: str) -> None:
        self.source, self.name = source, name
        self._heaps: dict[int, dict[int, bytes]] = {}
        self.root = Group(self, root, "/")
        _ = self.root.links  # a file whose root cannot be read is not an HDF5 file

    def text(self, raw: bytes) -> str:
        """Return a text of any length.

        Parameters
        ----------
        raw : bytes
            The 16 bytes that say where it is.
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
        """Return the messages of an object, with the types that it shares with others.

        Parameters
        ----------
        address : int
            The object's header.
        """
        return messages(self.source, address)

    def resolved(self, flags: int, body: bytes, kind: int) -> bytes:
        """Return the body of a message that may be kept elsewhere.

        Parameters
        ----------
        flags : int
            The message's flags.
        body : bytes
            What it has.
        kind : int
            Its kind.
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
    """The attributes of an object, decoded when asked for.

    Parameters
    ----------
    file : File
        The file.
    found : list of Message
        What it says of the object.
    """

    def __init__(self, file: File, found: list[Message]) -> None:
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
        """Return a value: text, a number, or an array of numbers or of texts."""
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


class Node:
    """A group or a dataset.

    Parameters
    ----------
    file : File
        The file.
    address : int
        Its header.
    name : str
        Its path.
    """

    def __init__(self, file: File, address: int, name: str) -> None:
        self.file, self.address, self.name = file, address, name
        self._messages = file.messages(address)

    @cached_property
    def attrs(self) -> Attributes:
        """The attributes."""
        return Attributes(self.file, self._messages)

    def _message(self, kind: int) -> bytes | None:
        for message in self._messages:
            if message.kind == kind:
                return self.file.resolved(message.flags, message.body, kind)
        return None


class Dataset(Node):
    """An array in the file.

    Parameters
    ----------
    file : File
        The file.
    address : int
        Its header.
    name : str
        Its path.
    """

    def __init__(self, file: File, address: int, name: str) -> None:
        super().__init__(file, address, name)
        kind, space = self._message(headers.DATATYPE), self._message(headers.DATASPACE)
        if kind is None or space is None:
            raise DamagedError(f"found no dataset but something else at {name!r}")
        self.type = datatype(Cursor(kind))
        self.shape: tuple[int, ...] = extent(Cursor(space)) or ()

    @cached_property
    def storage(self) -> Storage:
        """Where the content is."""
        layout, filters = self._message(headers.LAYOUT), self._message(headers.FILTERS)
        if layout is None:
            raise DamagedError(f"found dataset {self.name!r} without content")
        elsewhere = self._message(headers.EXTERNAL) is not None
        return stored(self.file.source, layout, filters, self.shape, self.type.size, elsewhere)


class Group(Node):
    """A group.

    Parameters
    ----------
    file : File
        The file.
    address : int
        Its header.
    name : str
        Its path.
    """

    @cached_property
    def links(self) -> dict[str, int | str]:
        """The address of each object in it, or the path that a soft link has."""
        found: dict[str, int | str] = {}
        for message in self._messages:
            if message.kind == headers.SYMBOLS:
                pairs = _symbols(self.file.source, Cursor(message.body))
            elif message.kind == headers.LINK:
                pairs = _link(Cursor(message.body))
            elif message.kind == headers.LINK_INFO:
                pairs = _dense(self.file.source, Cursor(message.body))
            else:
                continue
            for name, target in pairs:
                if name in found:
                    raise DamagedError(f"found {name!r} twice in {self.name}")
                found[name] = target
        return found

    def at(self, path: str) -> Group | Dataset | None:
        """Return what is at a path below, None where there is nothing.

        Parameters
        ----------
        path : str
            The path; from the root where it begins with a stroke.
        """
        left = MOST_LINKS
        here: Group | Dataset = self.file.root if path.startswith("/") else self
        parts = [part for part in path.split("/") if part not in ("", ".")]
        while parts:
            if not isinstance(here, Group):
                return None
            name = parts.pop(0)
            target = here.links.get(name)
            if isinstance(target, str):
                left -= 1
                if left < 0:
                    return None
                here = self.file.root if target.startswith("/") else here
                parts = [p for p in target.split("/") if p not in ("", ".")] + parts
            elif target is None:
                return None
            else:
                here = here.child(name, target)
        return here

    @property
    def parent(self) -> Group:
        """The group above; of the root itself."""
        above = self.file.root.at(self.name.rpartition("/")[0])
        return above if isinstance(above, Group) else self.file.root

    @cached_property
    def _children(self) -> dict[int, Group | Dataset]:
        return {}

    def child(self, name: str, address: int) -> Group | Dataset:
        """Return the object that a link of this group leads to.

        Parameters
        ----------
        name : str
            The link.
        address : int
            Where it leads.
        """
        path = f"{self.name.rstrip('/')}/{name}"
        known = self._children.get(address)
        if known is not None:
            return known
        made: Group | Dataset = Group(self.file, address, path)
        kinds = {message.kind for message in made._messages}
        if headers.DATASPACE in kinds:
            return Dataset(self.file, address, path)
        if kinds.isdisjoint({headers.SYMBOLS, headers.LINK_INFO, headers.LINK}):
            raise DamagedError(f"found neither group nor dataset at {path}")
        self._children[address] = made
        return made

    def __contains__(self, path: str) -> bool:
        return self.at(path) is not None

    def __getitem__(self, path: str) -> Any:
        found = self.at(path)
        if found is None:
            raise KeyError(path)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.links)


def _symbols(source: Source, body: Cursor) -> Iterator[tuple[str, int | str]]:
    """Yield the links of a group of the old form."""
    tree, heap = body.number(8), local_heap(source, body.number(8))
    for _, node in old_leaves(source, tree, GROUP_NODES, 8):
        head = Cursor(source.take(node, 8))
        head.expect(b"SNOD")
        head.raw(2)
        entries = Cursor(source.take(node + 8, head.number(2) * 40))
        while entries.at < len(entries.data):
            name, address, form = entries.number(8), entries.number(8), entries.number(4)
            entries.raw(4)
            soft = entries.number(4)
            entries.raw(12)
            yield text_at(heap, name), text_at(heap, soft) if form == 2 else address


def _dense(source: Source, info: Cursor) -> Iterator[tuple[str, int | str]]:
    """Yield the links of a group of the newer form that has many."""
    info.raw(1)
    info.raw(8 * (info.number(1) & 1))
    heap, tree = info.number(8), info.number(8)
    if heap == UNDEFINED:
        return
    entries = FractalHeap(source, heap)
    for record in records(source, tree, LINK_RECORDS):
        yield from _link(Cursor(entries.get(record[4:])))


def _link(body: Cursor) -> Iterator[tuple[str, int | str]]:
    """Yield the link that a message describes; none to other files."""
    version, flags = body.number(1), body.number(1)
    if version != 1:
        raise DamagedError(f"found a link of version {version}")
    kind = body.number(1) if flags & 0x08 else 0
    body.raw(8 * bool(flags & 0x04) + bool(flags & 0x10))
    name = decoded(body.raw(body.number(1 << (flags & 3))))
    if kind == 0:
        yield name, body.number(8)
    elif kind == 1:
        yield name, decoded(body.raw(body.number(2)))
