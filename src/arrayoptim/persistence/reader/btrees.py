"""B-trees: HDF5's index of the links of a group, of attributes and of chunks."""

from __future__ import annotations

from collections.abc import Iterator

from .checksum import verified
from .source import UNDEFINED, Cursor, DamagedError, Source, width

GROUP_NODES, CHUNK_NODES = 0, 1
DEEPEST = 16


def old_leaves(source: Source, address: int, kind: int, key: int) -> Iterator[tuple[bytes, int]]:
    """Yield the entries of a version 1 tree in order, as key and address.

    Parameters
    ----------
    source : Source
        The file.
    address : int
        The tree's root.
    kind : int
        `GROUP_NODES` or `CHUNK_NODES`.
    key : int
        Size of a key in bytes.

    Raises
    ------
    DamagedError
        If it is not such a tree, or has cycles.
    """
    waiting: list[tuple[int, int | None]] = [(address, None)]
    seen = set()
    while waiting:
        at, wanted = waiting.pop()
        if at in seen:
            raise DamagedError("found a tree that has a branch twice")
        seen.add(at)
        head = Cursor(source.take(at, 24))
        head.expect(b"TREE")
        found, level, count = head.number(1), head.number(1), head.number(2)
        if found != kind or level > DEEPEST or wanted not in (None, level):
            raise DamagedError(f"found a node of kind {found} and level {level} in a tree")
        body = Cursor(source.take(at + 24, count * (key + 8)))
        entries = [(body.raw(key), body.number(8)) for _ in range(count)]
        if level:
            waiting += [(child, level - 1) for _, child in reversed(entries)]
        else:
            yield from entries


def records(source: Source, address: int, kind: int) -> Iterator[bytes]:
    """Yield the records of a version 2 tree.

    Parameters
    ----------
    source : Source
        The file.
    address : int
        The tree's header.
    kind : int
        The kind of its records.

    Raises
    ------
    DamagedError
        If it is not such a tree, or has cycles.
    """
    if address == UNDEFINED:
        return
    head = Cursor(verified(source.take(address, 38)))
    head.expect(b"BTHD")
    version, found = head.number(1), head.number(1)
    node_size, size, depth = head.number(4), head.number(2), head.number(2)
    head.raw(2)
    root, count, total = head.number(8), head.number(2), head.number(8)
    if version or found != kind or not size or depth > DEEPEST or node_size <= size + 10:
        raise DamagedError(f"found a tree of version {version}, kind {found} and depth {depth}")
    widths = _widths(node_size, size, depth)
    waiting, seen, left = [(root, count, depth)] if count else [], set(), total
    while waiting:
        at, count, level = waiting.pop()
        if at in seen:
            raise DamagedError("found a tree that has a branch twice")
        seen.add(at)
        left -= count
        if left < 0:
            raise DamagedError(f"found a tree of more than {total} records, which is what it says")
        inner = (count + 1) * (8 + widths[0] + (widths[level - 1] if level > 1 else 0))
        length = 10 + count * size + (inner if level else 0)
        if length > node_size:
            raise DamagedError(f"found {count} records in a node of {node_size} bytes")
        body = Cursor(verified(source.take(at, length)))
        body.expect(b"BTIN" if level else b"BTLF")
        body.raw(2)
        yield from [body.raw(size) for _ in range(count)]
        for _ in range(count + 1 if level else 0):
            child, number = body.number(8), body.number(widths[0])
            body.raw(widths[level - 1] if level > 1 else 0)
            waiting.append((child, number, level - 1))
    if left:
        raise DamagedError(f"found a tree of {total - left} records, wanted {total}")


def _widths(node_size: int, size: int, depth: int) -> list[int]:
    """Return the widths of record counts: within a node, then below nodes of each level from 1."""
    most = (node_size - 10) // size
    first, under = width(most), most
    widths = [first]
    for level in range(1, depth + 1):
        pointer = 8 + first + (widths[level - 1] if level > 1 else 0)
        inner = (node_size - (10 + pointer)) // (size + pointer)
        under = (inner + 1) * under + inner
        widths.append(width(under))
    return widths
