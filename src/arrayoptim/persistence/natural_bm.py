"""Files of natural_bm: one group per weight, named after parameter and slot."""

from __future__ import annotations

from typing import Any

from .hdf5 import get_names
from .record import Record
from .stored import Stored, counter
from .weight_lists import Layout, choose

SUFFIXES = {"_moment": "momentum", "_ms": "momentum", "_vs": "velocity"}


def interpret(root: Any) -> Record:
    """Return the state in a file.

    Parameters
    ----------
    root : h5py.Group
        The file's root.

    Raises
    ------
    ValueError
        If it holds none, or has names that natural_bm does not write.
    """
    names = get_names(root, "weights") or []
    stored = [_weight(root, name) for name in names]
    iterations = counter(stored.pop(0)) if names and names[0] == "iterations" else None
    if not stored:
        raise ValueError(
            f"found a natural_bm file with weights {names}, wanted an optimizer's slots: it was "
            "saved before get_updates"
        )
    split = [_split(name) for name in names[len(names) - len(stored) :]]
    order = list(dict.fromkeys(slot for _, slot in split))
    slots = choose(stored, [Layout(tuple(order))], "natural_bm")
    parameters = [parameter for parameter, _ in split[: len(split) // len(order)]]
    wanted = [(parameter, slot) for slot in order for parameter in parameters]
    if wanted != split:
        raise ValueError(f"found weights in the order {names}, wanted slot by slot")
    sgd = order == ["momentum"]
    notes = [f"parameters in the file's order: {', '.join(parameters)}"]
    if sgd:
        notes.append("natural_bm does not save the momentum that SGD has ramped to")
    else:
        notes.append("the file fits Adam and Nadam alike; m_schedule of Nadam is not saved")
    class_name = "SGD" if sgd else None
    return Record("natural_bm", class_name, None, iterations, {}, slots, None, notes)


def _weight(root: Any, name: str) -> Stored:
    if name not in root:
        raise ValueError(f"found no group {name!r}, which attribute weights lists")
    inside = get_names(root[name], "weight_names")
    if inside is None or len(inside) != 1:
        raise ValueError(f"group {name!r}: found weight_names {inside}, wanted one name")
    return Stored(root[name], inside[0])


def _split(name: str) -> tuple[str, str]:
    for suffix, slot in SUFFIXES.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix), slot
    raise ValueError(f"found weight {name!r}, wanted a name that ends in {', '.join(SUFFIXES)}")
