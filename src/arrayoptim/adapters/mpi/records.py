"""Records of pieces of parameters, and of the whole of them."""

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
    """Return, in the process that writes files, an array of which others have pieces.

    All processes call it at once.

    Parameters
    ----------
    links : Links
        The processes; the first of them writes.
    flat : Flat
        Who has which piece.
    place : int
        The place of the parameter that the array is of.
    array : callable
        Returns what is here of it.
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
    """Return a record of this process's pieces, from one of the whole.

    Parameters
    ----------
    record : Record
        What a file holds.
    flat : Flat
        Who has which piece.
    paths : mapping of str to int
        The place of each parameter.

    Raises
    ------
    ValueError
        If it does not say which array is whose.
    """
    if record.paths is None:
        raise ValueError(
            f"{record.origin} does not name the parameters of its arrays; load it in one process, "
            "and save it again"
        )

    def cut(path: str, x: Any) -> Any:
        i = paths.get(path)
        if i is None:
            return x  # of no parameter that there is, as will be said
        if tuple(x.shape) == flat.shapes[i]:
            # It may be in the file yet; of others only what fits is read.
            return flat.part(i, np.asarray(x))
        return x if flat.owns(i) else np.empty((0, *x.shape[1:]), x.dtype)

    slots = {
        slot: [cut(path, x) for path, x in zip(record.paths[slot], arrays, strict=True)]
        for slot, arrays in record.slots.items()
    }
    return replace(record, slots=slots)
