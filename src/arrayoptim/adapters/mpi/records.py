"""Conversion between records of pieces and records of whole parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .communication import Links
from .flat import Flat

if TYPE_CHECKING:
    from ...persistence import Record


def joined(
    links: Links, flat: Flat, place: int, array: Callable[[], np.ndarray]
) -> np.ndarray | None:
    """Return, on the process that writes files, an array assembled from all processes' pieces.

    Collective; returns None on the other processes.

    Parameters
    ----------
    links : Links
        The processes; the first of them writes.
    flat : Flat
        The distribution of pieces.
    place : int
        The index of the array's parameter.
    array : callable
        Returns this process's piece.
    """
    owners = [piece.owner for piece in flat.of(place)]
    if links.rank:
        if links.rank in owners:
            links.comm.send(array(), dest=0)
        return None
    parts = [array() if k == 0 else links.comm.recv(source=k) for k in owners]
    whole: np.ndarray = flat.whole(place, parts)
    return whole


def cut_up(record: Record, flat: Flat, paths: Mapping[str, int]) -> Record:
    """Return a record of this process's pieces, given a record of whole arrays.

    Parameters
    ----------
    record : Record
        The content of a file.
    flat : Flat
        The distribution of pieces.
    paths : mapping of str to int
        The index of each parameter, by path.

    Raises
    ------
    ValueError
        If the record does not name the parameters of its arrays.
    """
    if record.paths is None:
        raise ValueError(
            f"{record.origin} does not name the parameters of its arrays; load it on one process, "
            "and save it again"
        )

    def cut(path: str, x: Any) -> Any:
        i = paths.get(path)
        if i is None:
            return x  # belongs to no parameter; reported later
        if tuple(x.shape) == flat.shapes[i]:
            # May still be in the file; only the piece that is needed is read.
            return flat.part(i, np.asarray(x))
        return x if flat.owns(i) else np.empty((0, *x.shape[1:]), x.dtype)

    slots = {
        slot: [cut(path, x) for path, x in zip(record.paths[slot], arrays, strict=True)]
        for slot, arrays in record.slots.items()
    }
    return replace(record, slots=slots)
