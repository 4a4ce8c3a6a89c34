"""Heaps: HDF5's storage for names, variable-length strings and dense links."""

from __future__ import annotations

from .btrees import records
from .checksum import verified
from .source import UNDEFINED, Cursor, DamagedError, Source, log2, width

HUGE_RECORDS = 1


def local_heap(source: Source, address: int) -> bytes:
    """Return the names in a group of the old format.

    Parameters
    ----------
    source : Source
        The file.
    address : int
        The address of the heap.
    """
    head = Cursor(source.take(address, 32))
    head.expect(b"HEAP")
    head.raw(4)
    size, _, start = (head.number(8) for _ in range(3))
    return source.take(start, size)


def text_at(heap: bytes, offset: int) -> str:
    """Return the string at an offset of a local heap.

    Parameters
    ----------
    heap : bytes
        The heap.
    offset : int
        The offset.
    """
    end = heap.find(b"\0", offset)
    if not 0 <= offset < len(heap) or end < 0:
        raise DamagedError("found a name that is outside its heap")
    return decoded(heap[offset:end])


def decoded(raw: bytes) -> str:
    """Decode UTF-8.

    Parameters
    ----------
    raw : bytes
        The bytes.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DamagedError("found a name that is no UTF-8") from error


def global_heap(source: Source, address: int) -> dict[int, bytes]:
    """Return the objects of a collection, by index.

    Parameters
    ----------
    source : Source
        The file.
    address : int
        The address of the collection.
    """
    head = Cursor(source.take(address, 16))
    head.expect(b"GCOL")
    head.raw(4)
    body = Cursor(source.take(address, head.number(8)), 16)
    found: dict[int, bytes] = {}
    while body.at + 16 <= len(body.data):
        number = body.number(2)
        body.raw(6)
        size = body.number(8)
        if number == 0:
            break
        if number in found:
            raise DamagedError(f"found two texts of number {number} in one heap")
        found[number] = body.raw(size)
        body.at += -size % 8
    return found


class FractalHeap:
    """A heap of the new format.

    Parameters
    ----------
    source : Source
        The file.
    address : int
        The address of the heap's header.
    """

    def __init__(self, source: Source, address: int) -> None:
        head = Cursor(source.take(address, 22))
        head.expect(b"FRHP")
        if head.number(1) != 0:
            raise DamagedError("found a heap of an unknown version")
        _, filters, _ = head.number(2), head.number(2), head.number(1)
        if filters:
            raise DamagedError("found a heap with filters, which are not read here")
        head = Cursor(verified(source.take(address, 146)), 10)
        most_managed = head.number(4)
        head.raw(8)
        self._huge_tree = head.number(8)
        head.raw(8 * 10)
        self._columns, self._first, most_direct = head.number(2), head.number(8), head.number(8)
        bits = head.number(2)
        head.raw(2)
        self._root, self._rows = head.number(8), head.number(2)
        self._source = source
        self._offset_width = (bits + 7) // 8
        self._length_width = min(width(most_direct), width(most_managed))
        self._direct_rows = log2(most_direct) - log2(self._first) + 2
        log2(self._columns)
        self._huge: dict[int, tuple[int, int]] | None = None
        self._blocks: dict[int, tuple[int, ...]] = {}

    def get(self, key: bytes) -> bytes:
        """Return an entry.

        Parameters
        ----------
        key : bytes
            The heap ID in a record.
        """
        form = key[0] >> 4
        if form == 0:
            place = Cursor(key, 1)
            offset, length = place.number(self._offset_width), place.number(self._length_width)
            return self._source.take(self._managed(offset, length), length)
        if form == 2:
            return key[1 : 2 + (key[0] & 15)]
        if form == 1:
            return self._source.take(*self._huge_at(Cursor(key, 1).number(len(key) - 1)))
        raise DamagedError("found an entry of a heap in an unknown form")

    def _huge_at(self, number: int) -> tuple[int, int]:
        if self._huge is None:
            found = records(self._source, self._huge_tree, HUGE_RECORDS)
            rows = [[Cursor(r, at).number(8) for at in (0, 8, 16)] for r in found]
            self._huge = {row[2]: (row[0], row[1]) for row in rows}
        if number not in self._huge:
            raise DamagedError("found a large entry of a heap that is not there")
        return self._huge[number]

    def _row(self, row: int) -> tuple[int, int]:
        """Return the offset of a row of blocks, and the size of each of its blocks."""
        if row == 0:
            return 0, self._first
        size = self._first << (row - 1)
        return size * self._columns, size

    def _managed(self, offset: int, length: int) -> int:
        """Return the address of an entry in the heap's own blocks."""
        at, rows, base = self._root, self._rows, 0
        while rows:
            row = max(0, ((offset - base) // (self._first * self._columns)).bit_length())
            if row >= rows:
                raise DamagedError("found an entry outside of its heap")
            start, size = self._row(row)
            column = (offset - base - start) // size
            children = self._children(at, rows)
            at = children[row * self._columns + column]
            base += start + column * size
            if row < self._direct_rows:
                break
            rows = log2(size) - log2(self._first * self._columns) + 1
        else:
            size = self._first
            if offset >= size:
                raise DamagedError("found an entry outside of its heap")
        if at == UNDEFINED or offset - base + length > size:
            raise DamagedError("found an entry of a heap in a block that is not there")
        return at + offset - base

    def _children(self, address: int, rows: int) -> tuple[int, ...]:
        if address not in self._blocks:
            count = rows * self._columns
            head = 13 + self._offset_width
            body = Cursor(verified(self._source.take(address, head + 8 * count + 4)))
            body.expect(b"FHIB")
            body.at = head
            self._blocks[address] = tuple(body.number(8) for _ in range(count))
        return self._blocks[address]
