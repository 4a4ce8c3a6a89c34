"""Parameters of one device that are stepped on the host, and their transfers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._typing import Array
from ...arrays.backend import itemsize
from ...arrays.libraries import COMPLEX, COMPUTE, backend_of
from ...arrays.memory import Stretches
from ...numerics.slots import EXPONENTS
from ...rules.rule import Rule
from ..cpu import engine as cpu
from ..gpu.arrays import Library
from ..gpu.copies import Stretch
from ..gpu.place import Place
from ..steps import Computed
from ..totals import part
from .pieces import Piece, cut, pieces_of, widest

__all__ = ["Shuttle"]

ROOMS = 3
"""Number of buckets in host memory: one is copied in, one is stepped, one is copied out."""


@dataclass(frozen=True)
class _Trip:
    """The transfers and the work of one bucket in a step.

    Attributes
    ----------
    there, back : list of Stretch
        The copies to the host, and to the device.
    run : callable
        Steps the bucket on the host.
    """

    there: list[Stretch]
    back: list[Stretch]
    run: Callable[[], None]


class Shuttle(Place):
    """Parameters of one library on one device, with their slots in host memory.

    Parameters
    ----------
    how : tuple of Rule and int or None
        The update rule, and the number of threads of the CPU engine.
    where : tuple of Library and int
        The library, and the device index.
    places : list of int
        Indices of the parameters among those of the plan.
    params : list of array
        The parameters.
    slots : list of mapping of str to array
        The slots of each.
    known : tuple of (list of str, list of int)
        Their names in messages, and their indices among all of the optimizer's.
    occupied : Stretches
        The memory written by the whole step, to which this adds its own.
    """

    def __init__(
        self,
        how: tuple[Rule, int | None],
        where: tuple[Library, int],
        places: list[int],
        params: list[Array],
        slots: Sequence[Mapping[str, Array]],
        known: tuple[list[str], list[int]],
        occupied: Stretches,
    ) -> None:
        super().__init__(where, places, params, occupied)
        rows = zip(params, self._dtypes, slots, strict=True)
        buckets = list(cut([pieces_of(how[0], k, *row) for k, row in enumerate(rows)]))
        size = max((sum(piece.room for piece in pieces) for pieces in buckets), default=0)
        with self._active():
            rooms = [self._device.pinned(size) for _ in range(min(ROOMS, len(buckets)))]
            self._copies = self._device.copies()
        self._buckets = [
            _Bucket(self._library, how, pieces, rooms[k % ROOMS], slots, known, self._at)
            for k, pieces in enumerate(buckets)
        ]

    def _settled(self, grads: list[Array | None]) -> list[str]:
        """Cast gradients that are too wide for the host buffer; see `Place`."""
        for k, (g, dtype) in enumerate(zip(grads, self._dtypes, strict=True)):
            if g is not None and itemsize(backend_of(g).dtype(g)) > widest(dtype):
                wanted = dtype if dtype in COMPLEX else COMPUTE[dtype]
                grads[k] = self._library.conform(g, self._params[k], wanted)
        return super()._settled(grads)

    def prepare(
        self,
        grads: Sequence[Array | None],
        values: Mapping[str, Mapping[str, Any]],
        seed: int | None,
        computed: Computed | None = None,
    ) -> Callable[[], None]:
        """Prepare the trips of all buckets; see `Place`."""
        with self._active():
            taken, found = self._apart(grads)
        trips = [bucket.prepare(taken, found, values, seed) for bucket in self._buckets]

        def sweep(keep: Any = taken) -> None:
            with self._active():
                self._copies.begin()
                self._go(trips)
            self._library.wrote(self._params)

        return sweep

    def _go(self, trips: Sequence[_Trip]) -> None:
        """Copy one bucket in and another one out while the host steps a third."""
        arrivals = [self._copies.fetch(trip.there) for trip in trips[:ROOMS]]
        returns: list[Any] = []
        for k, trip in enumerate(trips):
            arrivals[k].synchronize()
            trip.run()
            returns.append(self._copies.put(trip.back))
            if k + ROOMS < len(trips):
                # All copies back are on one stream, so the last event covers all of them.
                arrivals.append(self._copies.fetch(trips[k + ROOMS].there, returns[-1]))
        if returns:
            returns[-1].synchronize()


class _Bucket:
    """Pieces that are transferred together, and the CPU engine's plan for them.

    Parameters
    ----------
    library : Library
        The library of the arrays.
    how : tuple of Rule and int or None
        The update rule, and the number of threads.
    pieces : list of Piece
        The pieces.
    room : numpy.ndarray of uint8
        Their host buffer.
    slots : sequence of mapping of str to array
        The slots of each parameter.
    known : tuple of (list of str, list of int)
        The parameters' names in messages, and their indices among all of the optimizer's.
    addresses : numpy.ndarray
        The device address of each parameter.
    """

    def __init__(
        self,
        library: Library,
        how: tuple[Rule, int | None],
        pieces: list[Piece],
        room: np.ndarray[Any, Any],
        slots: Sequence[Mapping[str, Array]],
        known: tuple[list[str], list[int]],
        addresses: np.ndarray[Any, Any],
    ) -> None:
        self._library, self._pieces = library, pieces
        rule, threads = how
        self._measures = rule.kind != "elementwise"
        self._rooms: list[np.ndarray[Any, Any]] = []
        self._stretches: list[Stretch] = []
        params, begin = [], 0
        for piece in pieces:
            mine, begin = room[begin : begin + piece.room], begin + piece.room
            params.append(library.on_host(mine, piece.dtype, piece.count))
            item = itemsize(piece.dtype)
            there = int(addresses[piece.place]) + piece.start * item
            self._stretches.append((mine.ctypes.data, there, piece.count * item))
            self._rooms.append(mine[piece.bytes :])
        self._grads: dict[tuple[int, str], Array] = {}
        self._plan = cpu.Plan(
            rule,
            params,
            [_slots_of(library, slots[piece.place], piece) for piece in pieces],
            paths=[known[0][piece.place] for piece in pieces],
            places=[known[1][piece.place] for piece in pieces],
            threads=threads,
        )

    def prepare(
        self,
        grads: Sequence[Array | None],
        found: np.ndarray[Any, Any],
        values: Mapping[str, Mapping[str, Any]],
        seed: int | None,
    ) -> _Trip:
        """Prepare a step.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients of all parameters, contiguous and in their order.
        found : numpy.ndarray
            Their device addresses.
        values : mapping of str to mapping
            The numbers of the step, by compute dtype.
        seed : int or None
            The seed of the step if slots are rounded stochastically.
        """
        there: list[Stretch] = []
        back: list[Stretch] = []
        arrived: list[Array | None] = []
        for k, (piece, room) in enumerate(zip(self._pieces, self._rooms, strict=True)):
            g = grads[piece.place]
            if g is None:
                arrived.append(None)
                continue
            kind = backend_of(g).dtype(g)
            item, at = itemsize(kind), int(found[piece.place])
            stretch = room.ctypes.data, at + piece.start * item, piece.count * item
            there += [self._stretches[k], stretch]
            back.append(self._stretches[k])
            if (k, kind) not in self._grads:
                self._grads[k, kind] = self._library.on_host(room, kind, piece.count)
            arrived.append(self._grads[k, kind])
        places = [piece.place for piece in self._pieces]
        own = {compute: part(row, places) for compute, row in values.items()}
        if self._measures:
            # Norms can be computed only once the data has arrived.
            return _Trip(there, back, lambda: self._plan.sweep(arrived, own, seed))
        return _Trip(there, back, self._plan.prepare(arrived, own, seed))


def _slots_of(library: Library, slots: Mapping[str, Array], piece: Piece) -> dict[str, Array]:
    """Return a piece's slots. Exponents belong to whole parameters, with their own order."""
    return {
        name: array if name.endswith(EXPONENTS) else library.flat(array)[piece.start : piece.stop]
        for name, array in slots.items()
    }
