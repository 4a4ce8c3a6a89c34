"""Limits on what a file may request, relative to its own size.

A small file can declare arrays, or compress content, that would fill the memory of any machine.
"""

from __future__ import annotations

from .record import Record
from .stored import Stored

SMALL = 2**26
"""Bytes that any file may request."""

RATIO = 64
"""Maximum ratio of requested content to file size, beyond `SMALL`."""


def affordable(size: int, wanted: int) -> bool:
    """Whether a file of a given size may request a number of bytes.

    Parameters
    ----------
    size, wanted : int
        The bytes of the file, and of its content.
    """
    return wanted <= max(SMALL, RATIO * size)


def check_size(record: Record, size: int) -> None:
    """Raise for arrays that are far larger than their file, or datasets used several times.

    Parameters
    ----------
    record : Record
        The contents of the file.
    size : int
        The size of the file in bytes.

    Raises
    ------
    ValueError
        If there are such arrays.
    """
    arrays = [x for column in record.slots.values() for x in column if isinstance(x, Stored)]
    places = [x.address for x in arrays]
    if len(set(places)) < len(places):
        raise ValueError(
            f"found {len(places)} arrays in {len(set(places))} datasets, wanted each in one of "
            "its own"
        )
    wanted = sum(x.nbytes for column in record.slots.values() for x in column)
    if not affordable(size, wanted):
        raise ValueError(
            f"found arrays of {wanted:,} bytes in a file of {size:,}, wanted at most "
            f"{RATIO} times as much: it is packed too tightly to be an optimizer's state; "
            "h5repack unpacks it, if it is"
        )
