"""The layout of this library: what it writes, and reading it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from . import config as _config
from . import keras2 as _keras2
from . import names as _names
from .apart import Ask
from .hdf5 import get_long_text, get_names, get_text, put_array, put_long_text, put_names, put_text
from .record import Record
from .stored import Stored, counter, number

GROUP = "optimizer_weights"
FORMAT = 1
ITERATIONS = "iterations"


@dataclass(frozen=True)
class _Entry:
    """One dataset to be written."""

    link: str
    slot: str
    parameter: str | None
    array: Callable[[], np.ndarray]
    listed: bool


def fill(
    group: Any,
    record: Record,
    ask: Ask = lambda function: function(),
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """Write a record into an empty group.

    Parameters
    ----------
    group : h5py.Group
        The group.
    record : Record
        The content.
    ask : callable
        Calls a function that returns an array.
    after_each : callable
        Called after each dataset.

    Raises
    ------
    ValueError
        If the record is contradictory, or holds what HDF5 cannot.
    """
    entries = list(_entries(record))
    _check(record, [entry.link for entry in entries])
    group.attrs["format"] = FORMAT
    group.attrs["skipped"] = record.skipped
    put_text(group.id, "version", _version())
    if record.class_name is not None:
        put_text(group.id, "class_name", record.class_name)
    if record.fingerprint is not None:
        put_text(group.id, "fingerprint", record.fingerprint)
    if record.config is not None:
        put_long_text(group, "config", _config.dumps(record.config))
    put_names(group, "slots", [_names.encode(slot).decode() for slot in record.slots])
    put_names(group, "weight_names", [entry.link for entry in entries if entry.listed])
    put_names(group, "extra_names", [entry.link for entry in entries if not entry.listed])
    for entry in entries:
        texts = {"slot": entry.slot}
        if entry.parameter is not None:
            texts["parameter"] = entry.parameter
        put_array(group, entry.link, ask(entry.array), texts)
        after_each()


def _entries(record: Record) -> Iterator[_Entry]:
    """Give the datasets: those that Keras 2.0 keeps, in its order, and the rest."""
    name = record.class_name or ""
    root = _names.segment(name or "optimizer")
    if record.iterations is not None:
        count = partial(np.array, record.iterations, np.int64)
        kept = _keras2.keras2_saves_iterations(name)
        yield _Entry(f"{root}/{ITERATIONS}", ITERATIONS, None, count, kept)
    for scalar, held in record.scalars.items():
        value = partial(np.array, held, np.float64)
        yield _Entry(f"{root}/{_names.segment(scalar)}", scalar, None, value, False)
    listed = _keras2.listed(name, record.slots)
    for slot in [*listed, *(slot for slot in record.slots if slot not in listed)]:
        arrays = record.slots[slot]
        paths = (record.paths or {}).get(slot, [])
        if len(paths) != len(arrays):
            raise ValueError(
                f"slot {slot}: found {len(arrays)} arrays and {len(paths)} parameter paths, "
                "wanted as many of one as of the other"
            )
        for path, array in zip(paths, arrays, strict=True):
            lazy = array if callable(array) else partial(np.asarray, array)
            link = f"{root}/{_names.segment(slot)}/{_names.link(path)}"
            yield _Entry(link, slot, path, lazy, slot in listed)


def _check(record: Record, links: list[str]) -> None:
    """Refuse what could not be read back: counts below 0, and one name for two things."""
    for name, count in (("iterations", record.iterations), ("skipped", record.skipped)):
        if count is not None and count < 0:
            raise ValueError(f"{name}: found {count}, wanted a whole number from 0")
    clash = {ITERATIONS} & {*record.slots, *record.scalars} or set(record.slots) & set(
        record.scalars
    )
    # A dataset's name must not be that of a group on the way to another dataset.
    groups = {link[:end] for link in links for end in range(len(link)) if link[end] == "/"}
    clash |= groups & set(links)
    if len(set(links)) < len(links):
        clash |= {link for link in links if links.count(link) > 1}
    if clash:
        raise ValueError(
            f"found the names {', '.join(sorted(clash)[:3])} more than once, wanted every "
            "parameter, slot and scalar under a name of its own"
        )


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("arrayoptim")
    except PackageNotFoundError:
        return "unknown"


def interpret(group: Any) -> Record:
    """Give the state in a group that `fill` wrote.

    Parameters
    ----------
    group : h5py.Group
        The group.

    Raises
    ------
    ValueError
        If the format is newer, or anything is missing or contradictory.
    """
    if _whole(group, "format", 1) > FORMAT:
        raise ValueError(
            f"found format {group.attrs['format']}, wanted at most {FORMAT}: the file was written "
            "by a newer version of arrayoptim; update it"
        )
    names = _listed(group, "weight_names") + _listed(group, "extra_names")
    declared = [_names.decode(name.encode()) for name in _listed(group, "slots")]
    record = Record(
        source=f"arrayoptim {FORMAT}",
        class_name=get_text(group, "class_name"),
        config=None,
        iterations=None,
        scalars={},
        slots={slot: [] for slot in declared},
        paths={slot: [] for slot in declared},
        skipped=_whole(group, "skipped"),
        fingerprint=get_text(group, "fingerprint"),
    )
    _read_config(record, get_long_text(group, "config"))
    for name in names:
        _place(record, Stored(group, name))
    for slot, paths in (record.paths or {}).items():
        if len(set(paths)) < len(paths):
            raise ValueError(f"found two arrays of {slot} for one parameter, wanted one")
    return record


def _read_config(record: Record, text: str | None) -> None:
    if text is not None:
        record.config = _config.loads(text)
        record.notes += [
            f"config entry {name} was {what}, which no file holds"
            for name, what in _config.unserializable(record.config).items()
        ]


def _place(record: Record, stored: Stored) -> None:
    """Put a dataset where its attributes say."""
    slot, parameter = stored.text("slot"), stored.text("parameter")
    found = f"{stored.name}: found slot {slot!r} and parameter {parameter!r}"
    if slot is None:
        raise ValueError(f"{found}, wanted both as attributes")
    if parameter is None and slot == ITERATIONS and record.iterations is None:
        record.iterations = counter(stored)
    elif parameter is None and slot != ITERATIONS and slot not in {*record.scalars, *record.slots}:
        record.scalars[slot] = float(number(stored))
    elif parameter is not None and slot in record.slots and record.paths is not None:
        record.slots[slot].append(stored)
        record.paths[slot].append(parameter)
    else:
        raise ValueError(f"{found}, wanted one of the slots {', '.join(record.slots)}, each once")


def _listed(group: Any, name: str) -> list[str]:
    names = get_names(group, name)
    if names is None:
        raise ValueError(f"found no attribute {name}, wanted a list of names: not a whole file")
    return names


def _whole(group: Any, name: str, least: int = 0) -> int:
    value = group.attrs.get(name)
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: found {value!r}, wanted a whole number from {least}")
    return int(value)
