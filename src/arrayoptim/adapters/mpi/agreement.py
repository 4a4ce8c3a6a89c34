"""What processes have to agree on before they step together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...arrays.trees import Structure
from .links import Links

Array = Any


def together(links: Links, act: Callable[[], Any]) -> Any:
    """Do something in all processes, and return what it gives here.

    Parameters
    ----------
    links : Links
        The processes.
    act : callable
        What is to be done.

    Raises
    ------
    Exception
        What was raised here.
    RuntimeError
        If something was raised in another process.
    """
    found, error = None, None
    try:
        found = act()
    except Exception as raised:
        error = raised
    if not int(links.greatest(np.array([error is not None], np.int64))[0]):
        return found
    words = links.comm.allgather(None if error is None else str(error))
    if error is not None:
        raise error
    first = next(k for k, each in enumerate(words) if each is not None)
    raise RuntimeError(f"process {first} could not take part: {words[first]}")


def key_of(leaves: Sequence[Array | None], structure: Structure, needs: Sequence[bool]) -> Any:
    """Return what decides who has which piece.

    Parameters
    ----------
    leaves : sequence of array or None
        The parameters.
    structure : Structure
        Their paths.
    needs : sequence of bool
        Which of them are stepped as wholes.
    """

    def kind(x: Array) -> tuple[Any, ...]:
        return tuple(x.shape), str(x.dtype), x.flags.c_contiguous, x.flags.f_contiguous

    return structure.paths, [None if x is None else kind(x) for x in leaves], list(needs)


def require_agreed(links: Links, key: Any) -> None:
    """Refuse to go on with processes that have something else.

    Raises
    ------
    ValueError
        If one has, in all of them.
    """
    number = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:7], "big")
    low, high = links.greatest(np.array([-number, number], np.int64))
    if -low != high:
        raise ValueError(
            "the processes have parameters of different paths, shapes, data types or order in "
            "memory, or step them by different rules; wanted the same in all of them"
        )
