"""The content of datasets: contiguous, compact in the header, or chunked."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .btrees import CHUNK_NODES, old_leaves
from .source import UNDEFINED, Cursor, DamagedError, Source

COMPACT, CONTIGUOUS, CHUNKED, VIRTUAL = 0, 1, 2, 3
DEFLATE, SHUFFLE, FLETCHER = 1, 2, 3
MOST_FILTERS = 8


@dataclass(frozen=True)
class Storage:
    """The location of a dataset's content.

    Attributes
    ----------
    source : Source
        The file.
    shape : tuple of int
        Its shape.
    size : int
        Size of an element in bytes.
    form : int
        `COMPACT`, `CONTIGUOUS`, `CHUNKED` or `VIRTUAL`.
    address : int
        The address of the content, or of the index of chunks.
    found : int
        Its size in the file, if contiguous.
    chunk : tuple of int
        The shape of a chunk.
    filters : tuple of int
        The filters of each chunk.
    inside : bytes
        Compact content from the header.
    single : tuple of int or None
        Size and filter mask of the only chunk, if there is no index.
    """

    source: Source
    shape: tuple[int, ...]
    size: int
    form: int
    address: int = UNDEFINED
    found: int = 0
    chunk: tuple[int, ...] = ()
    filters: tuple[int, ...] = ()
    inside: bytes = field(default=b"", repr=False)
    single: tuple[int, int] | None = None

    @property
    def wanted(self) -> int:
        """Size of the whole content in bytes."""
        return math.prod(self.shape) * self.size

    @cached_property
    def chunks(self) -> dict[tuple[int, ...], tuple[int, int, int]]:
        """Address, size and filter mask of each chunk, keyed by its offset."""
        if self.single is not None:
            return {(0,) * len(self.shape): (self.address, *self.single)}
        found: dict[tuple[int, ...], tuple[int, int, int]] = {}
        if self.address == UNDEFINED:
            return found
        rank = len(self.shape)
        key = 8 + 8 * (rank + 1)
        for raw, address in old_leaves(self.source, self.address, CHUNK_NODES, key):
            place = Cursor(raw)
            size, mask = place.number(4), place.number(4)
            start = tuple(place.number(8) for _ in range(rank))
            if start in found or any(at % n for at, n in zip(start, self.chunk, strict=True)):
                raise DamagedError(f"found a chunk at {start} of chunks of shape {self.chunk}")
            found[start] = address, size, mask
        return found

    @property
    def stored(self) -> int:
        """Size of the content in the file."""
        if self.form != CHUNKED:
            return self.found
        return sum(size for _, size, _ in self.chunks.values())

    def whole(self) -> bool:
        """Whether every element is in the file."""
        if self.form != CHUNKED:
            return self.form != VIRTUAL and self.found == self.wanted
        counts = [-(-n // m) for n, m in zip(self.shape, self.chunk, strict=True)]
        return len(self.chunks) >= math.prod(counts)

    def check(self) -> None:
        """Raise if content is missing from the file."""
        if self.form == CONTIGUOUS and self.found:
            self.source.within(self.address, self.found)

    def read(self, array: np.ndarray) -> None:
        """Read the content into an array of that shape and element size.

        Parameters
        ----------
        array : numpy.ndarray
            The array.
        """
        if not array.size:
            return
        raw = array.reshape(-1).view(np.uint8)
        if self.form == COMPACT:
            raw[:] = np.frombuffer(self.inside, np.uint8, raw.size)
        elif self.form == CONTIGUOUS:
            self.source.fill(self.address, raw.data)
        else:
            for start, piece in self._pieces(array.dtype):
                ends = [
                    min(at + n, m) for at, n, m in zip(start, self.chunk, self.shape, strict=True)
                ]
                if any(at >= m for at, m in zip(start, self.shape, strict=True)):
                    continue
                there = tuple(map(slice, start, ends))
                array[there] = piece[tuple(slice(e - s) for s, e in zip(start, ends, strict=True))]

    def _pieces(self, dtype: np.dtype[Any]) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        whole = math.prod(self.chunk) * self.size
        for start, (address, size, mask) in self.chunks.items():
            self.source.within(address, size)
            packed = np.empty(size, np.uint8)
            self.source.fill(address, packed.data)
            raw = packed.tobytes()
            for place in reversed(range(len(self.filters))):
                if not mask >> place & 1:
                    raw = _undone(self.filters[place], raw, whole, self.size)
            if len(raw) != whole:
                raise DamagedError(f"found a chunk of {len(raw)} bytes, wanted {whole}")
            yield start, np.frombuffer(raw, dtype).reshape(self.chunk)


def _undone(filter_id: int, raw: bytes, whole: int, size: int) -> bytes:
    if filter_id == DEFLATE:
        # Never more than fits, plus a trailing checksum.
        unpacker = zlib.decompressobj()
        found = unpacker.decompress(raw, whole + 5)
        if not unpacker.eof:
            raise DamagedError(f"found a packed chunk of other than {whole} bytes")
        return found
    if filter_id == FLETCHER:
        return raw[:-4]
    count = len(raw) // size
    mixed = np.frombuffer(raw[: count * size], np.uint8).reshape(size, count)
    return mixed.T.tobytes() + raw[count * size :]


def stored(
    source: Source,
    layout: bytes,
    filters: bytes | None,
    shape: tuple[int, ...],
    size: int,
    elsewhere: bool,
) -> Storage:
    """Return the location of a dataset's content.

    Parameters
    ----------
    source : Source
        The file.
    layout, filters : bytes
        Its layout and filter messages.
    shape : tuple of int
        Its shape.
    size : int
        Size of an element in bytes.
    elsewhere : bool
        Whether the content is in external files.

    Raises
    ------
    DamagedError
        If its format is not supported here.
    """
    body = Cursor(layout)
    version = body.number(1)
    if version in (1, 2):
        return _first_layouts(body, Storage(source, shape, size, VIRTUAL), filters)
    form = body.number(1)
    if version not in (3, 4, 5) or form > VIRTUAL:
        raise DamagedError(f"found content in layout {form} of version {version}")
    if form == COMPACT:
        inside = body.raw(body.number(2))
        return Storage(source, shape, size, COMPACT, found=len(inside), inside=inside)
    if form == CONTIGUOUS and not elsewhere:
        address, found = body.number(8), body.number(8)
        return Storage(source, shape, size, form, address, 0 if address == UNDEFINED else found)
    if form == CHUNKED and version == 3:
        rank, address = body.number(1) - 1, body.number(8)
        chunk = tuple(body.number(4) for _ in range(rank))
        return _chunked(source, shape, size, address, chunk, filters)
    if form == CHUNKED:
        return _single(source, body, shape, size, filters)
    return Storage(source, shape, size, VIRTUAL)


def _first_layouts(body: Cursor, base: Storage, filters: bytes | None) -> Storage:
    """Parse a layout message of version 1 or 2."""
    rank, form = body.number(1), body.number(1)
    body.raw(5)
    address = UNDEFINED if form == COMPACT else body.number(8)
    sizes = tuple(body.number(4) for _ in range(rank))
    if form == CHUNKED:
        return _chunked(base.source, base.shape, base.size, address, sizes[:-1], filters)
    if form == CONTIGUOUS:
        found = 0 if address == UNDEFINED else base.wanted
        return Storage(base.source, base.shape, base.size, form, address, found)
    inside = body.raw(body.number(4))
    return Storage(base.source, base.shape, base.size, COMPACT, found=len(inside), inside=inside)


def _single(
    source: Source, body: Cursor, shape: tuple[int, ...], size: int, filters: bytes | None
) -> Storage:
    """Return the location of a single chunk, from a layout message of version 4 or 5."""
    flags, rank, length = body.number(1), body.number(1) - 1, body.number(1)
    chunk = tuple(body.number(length) for _ in range(rank))
    body.raw(length)
    if body.number(1) != 1:
        raise DamagedError("found chunks in a form that is not read here; h5repack writes others")
    whole = math.prod(chunk) * size
    single = (body.number(8), body.number(4)) if flags & 2 else (whole, 0)
    return _chunked(source, shape, size, body.number(8), chunk, filters, single)


def _chunked(
    source: Source,
    shape: tuple[int, ...],
    size: int,
    address: int,
    chunk: tuple[int, ...],
    filters: bytes | None,
    single: tuple[int, int] | None = None,
) -> Storage:
    if len(chunk) != len(shape) or 0 in chunk:
        raise DamagedError(f"found chunks of shape {chunk} of an array of shape {shape}")
    if single is not None and address == UNDEFINED:
        single = None
    return Storage(
        source, shape, size, CHUNKED, address, 0, chunk, _filters(filters), single=single
    )


def _filters(raw: bytes | None) -> tuple[int, ...]:
    if raw is None:
        return ()
    body = Cursor(raw)
    version, count = body.number(1), body.number(1)
    if version not in (1, 2) or count > MOST_FILTERS:
        raise DamagedError(f"found {count} filters in version {version}")
    body.raw(6 * (version == 1))
    found = []
    for _ in range(count):
        number = body.number(2)
        named = version == 1 or number >= 256
        length = body.number(2) if named else 0
        body.raw(2)
        values = body.number(2)
        body.raw(-(-length // 8) * 8 if version == 1 else length)
        body.raw(4 * values + 4 * (version == 1 and values % 2))
        if number not in (DEFLATE, SHUFFLE, FLETCHER):
            raise DamagedError(
                f"found content packed by filter {number}, wanted gzip, shuffle or none; "
                "h5repack unpacks it"
            )
        found.append(number)
    return tuple(found)
