"""Groups and datasets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from . import headers
from .btrees import GROUP_NODES, old_leaves, records
from .data import Storage, stored
from .heaps import FractalHeap, decoded, local_heap, text_at
from .objects import Attributes, Objects
from .source import UNDEFINED, Cursor, DamagedError, Source
from .types import datatype, extent

LINK_RECORDS = 5
MOST_LINKS = 16
"""Maximum length of a chain of soft links."""


class Node:
    """A group or a dataset.

    Parameters
    ----------
    file : File
        The file.
    address : int
        The address of its header.
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
        The address of its header.
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
        """The location of the content."""
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
        The address of its header.
    name : str
        Its path.
    """

    @cached_property
    def links(self) -> dict[str, int | str]:
        """The address of each object in it, or the target path of a soft link."""
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
        """Return the object at a path, or None if there is none.

        Parameters
        ----------
        path : str
            The path, relative unless it starts with a slash.
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
        """The parent group; for the root, itself."""
        above = self.file.root.at(self.name.rpartition("/")[0])
        return above if isinstance(above, Group) else self.file.root

    @cached_property
    def _children(self) -> dict[int, Group | Dataset]:
        return {}

    def child(self, name: str, address: int) -> Group | Dataset:
        """Return the object that a link of this group points to.

        Parameters
        ----------
        name : str
            The link.
        address : int
            The address that it points to.
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
    """Yield the links of a group of the old format."""
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
    """Yield the links of a group of the new format with dense storage."""
    info.raw(1)
    info.raw(8 * (info.number(1) & 1))
    heap, tree = info.number(8), info.number(8)
    if heap == UNDEFINED:
        return
    entries = FractalHeap(source, heap)
    for record in records(source, tree, LINK_RECORDS):
        yield from _link(Cursor(entries.get(record[4:])))


def _link(body: Cursor) -> Iterator[tuple[str, int | str]]:
    """Yield the link in a message, unless it is external."""
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


class File(Objects):
    """A file with its root.

    Parameters
    ----------
    source : Source
        The file.
    root : int
        The address of the root group's header.
    name : str
        The file's name in messages.
    """

    def __init__(self, source: Source, root: int, name: str) -> None:
        super().__init__(source, name)
        self.root = Group(self, root, "/")
        _ = self.root.links  # raises now if the root cannot be read, as then it is not an HDF5 file
