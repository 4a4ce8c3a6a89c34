"""Torch's state of one parameter: slots, and counters and scalar state as 0-d tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from .shards import Tensor, is_shared_out, local

Entry = dict[str, Any]

COUNTERS = ("step", "skipped")
"""The keys of a state's entry besides slots and scalar state."""


def begun(entry: Entry, wanted: Iterable[str]) -> bool:
    """Return whether an entry holds state of the optimizer, not only what others put there."""
    return any(entry.get(name) is not None for name in ("step", *wanted))


def faults_of(
    entry: Entry,
    found: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, str],
    scalars: Iterable[str],
    word: Callable[[str], str],
) -> str:
    """Return what does not fit in an entry; empty where all fits.

    Parameters
    ----------
    entry : dict
        The entry.
    found : mapping of str to torch.Tensor
        Its slots.
    shapes : mapping of str to tuple of int
        The shapes of the slots, of what this process holds of them.
    wanted : mapping of str to str
        The slots by name, with their dtypes.
    scalars : iterable of str
        Names of scalar state.
    word : callable
        Returns torch's name of slots and scalar state.
    """
    missing = [name for name in (*wanted, *scalars, "step") if entry.get(name) is None]
    # Others may keep something of their own in an entry.
    others = [name for name in entry if name not in (*wanted, *scalars, *COUNTERS)]
    faults = {
        "missing": list(map(word, missing)),
        "unexpected": others if missing else [],
        "misshapen": [
            f"{word(name)} {seen}, wanted {shapes[name]}"
            for name, x in found.items()
            if name in wanted and (seen := _seen(x)) != shapes[name]
        ],
    }
    if not any(faults.values()):
        return ""
    return "; ".join(f"{k}: {', '.join(row) or 'none'}" for k, row in faults.items())


def refuse_otherwise_shared_out(found: Mapping[str, Any], p: Tensor, path: str) -> None:
    """Refuse whole slots of a sharded parameter, and sharded slots of a whole one.

    Raises
    ------
    ValueError
        If there is one.
    """
    for name, x in found.items():
        if isinstance(x, torch.Tensor) and is_shared_out(p) != is_shared_out(x):
            raise ValueError(
                f"{name} of parameter {path!r}: found a {type(x).__name__}, and the parameter is a "
                f"{type(p).__name__}; torch.distributed.checkpoint loads it as the parameter is "
                "distributed"
            )


def slots_of(found: Mapping[str, Any], wanted: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the slots in their order, each as what this process holds of it, in its dtype."""
    slots = {}
    for name, kind in wanted.items() if found else ():
        here, dtype = local(found[name]), getattr(torch, kind)
        slots[name] = here if here.dtype == dtype else here.to(dtype)
    return slots


def _seen(x: Any) -> Any:
    return tuple(local(x).shape) if isinstance(x, torch.Tensor) else type(x).__name__
