"""The library's own format: writing and reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from . import json_config as _config
from . import keras2 as _keras2
from . import names as _names
from .hdf5 import get_long_text, get_names, get_text, put_array, put_long_text, put_names, put_text
from .packed import MANY, Named, Packer, unpacked
from .record import Record
from .stored import Stored, counter, number
from .worker_thread import Ask

GROUP = "optimizer_weights"
FORMAT = 2
"""The newest format; files with at most `packed.MANY` arrays are written in format 1."""

ITERATIONS = "iterations"


@dataclass(frozen=True)
class Entry:
    """A dataset to write.

    Attributes
    ----------
    link : str
        Its name in the group.
    slot, parameter : str
        The slot and parameter of the array.
    array : callable
        Returns the content.
    listed : bool
        Whether Keras 2.0 saves it.
    """

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
        Calls a function that returns an array, perhaps in another thread.
    after_each : callable
        Called after each dataset.

    Raises
    ------
    ValueError
        If the record is inconsistent, or not representable in HDF5.
    """
    many = written_in(record) > 1
    entries = list(entries_of(record, packed=many))
    _check(record, [entry.link for entry in entries])
    group.attrs["format"] = written_in(record)
    group.attrs["skipped"] = record.skipped
    put_text(group.id, "version", _version())
    if record.class_name is not None:
        put_text(group.id, "class_name", record.class_name)
    if record.fingerprint is not None:
        put_text(group.id, "fingerprint", record.fingerprint)
    if record.config is not None:
        put_long_text(group, "config", _config.dumps(record.config))
    if record.paths is None:
        group.attrs["unnamed"] = 1
    for entry in entries:
        put_array(group, entry.link, ask(entry.array), _texts(entry.slot, entry.parameter))
        after_each()
    large = _pack(group, record, ask, after_each) if many else []
    put_names(group, "slots", [_names.encode(slot).decode() for slot in record.slots])
    put_names(group, "weight_names", [entry.link for entry in entries if entry.listed])
    extra = [entry.link for entry in entries if not entry.listed]
    put_names(group, "extra_names", [*extra, *large])


def written_in(record: Record) -> int:
    """Return the format in which a record is written.

    Parameters
    ----------
    record : Record
        The record.
    """
    many = record.paths is not None and sum(map(len, record.slots.values())) > MANY
    return FORMAT if many else 1


def _texts(slot: str, parameter: str | None) -> dict[str, str]:
    return {"slot": slot} if parameter is None else {"slot": slot, "parameter": parameter}


def _pack(group: Any, record: Record, ask: Ask, after_each: Callable[[], None]) -> list[str]:
    """Pack many arrays, and return the names of those with separate datasets."""
    root = _names.segment(record.class_name or "optimizer")
    large: list[str] = []

    def put_large(slot: str, path: str, array: np.ndarray) -> None:
        large.append(_link(root, slot, path))
        put_array(group, large[-1], array, _texts(slot, path))

    for _ in Packer(group, ask, put_large).put(_arrays(record, list(record.slots))):
        after_each()
    return large


def _link(root: str, slot: str, path: str) -> str:
    return f"{root}/{_names.segment(slot)}/{_names.link(path)}"


def _arrays(record: Record, slots: list[str]) -> Iterator[Named]:
    """Yield slot, parameter and a function that returns the array, for each array."""
    for slot in slots:
        arrays = record.slots[slot]
        count = [str(number) for number in range(len(arrays))]
        paths = count if record.paths is None else record.paths.get(slot, [])
        if len(paths) != len(arrays):
            raise ValueError(
                f"slot {slot}: found {len(arrays)} arrays and {len(paths)} parameter paths, "
                "wanted as many of one as of the other"
            )
        if len(set(paths)) < len(paths):
            raise ValueError(f"slot {slot}: found a parameter's path more than once")
        for path, array in zip(paths, arrays, strict=True):
            yield slot, path, array if callable(array) else partial(np.asarray, array)


def entries_of(record: Record, packed: bool) -> Iterator[Entry]:
    """Yield the datasets: those that Keras 2.0 saves, in its order, then the rest."""
    name = record.class_name or ""
    root = _names.segment(name or "optimizer")
    if record.iterations is not None:
        count = partial(np.array, record.iterations, np.int64)
        kept = _keras2.keras2_saves_iterations(name)
        yield Entry(f"{root}/{ITERATIONS}", ITERATIONS, None, count, kept)
    for scalar, held in record.scalars.items():
        value = partial(np.array, held, np.float64)
        yield Entry(f"{root}/{_names.segment(scalar)}", scalar, None, value, False)
    listed = _keras2.listed(name, record.slots)
    order = [*listed, *(slot for slot in record.slots if slot not in listed)]
    for slot, path, array in _arrays(record, [] if packed else order):
        yield Entry(_link(root, slot, path), slot, path, array, slot in listed)


def _check(record: Record, links: list[str]) -> None:
    """Raise for what could not be read back: negative counts, and duplicate names."""
    for name, count in (("iterations", record.iterations), ("skipped", record.skipped)):
        if count is not None and count < 0:
            raise ValueError(f"{name}: found {count}, wanted an integer from 0")
    clash = {ITERATIONS} & {*record.slots, *record.scalars} or set(record.slots) & set(
        record.scalars
    )
    # A dataset must not have the name of another dataset's parent group.
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
    """Return the state in a group written by `fill`.

    Parameters
    ----------
    group : h5py.Group
        The group.

    Raises
    ------
    ValueError
        If the format is newer, or anything is missing or inconsistent.
    """
    version = _whole(group, "format", 1)
    if version > FORMAT:
        raise ValueError(
            f"found format {group.attrs['format']}, wanted at most {FORMAT}: the file was written "
            "by a newer version of arrayoptim; update it"
        )
    names = _listed(group, "weight_names") + _listed(group, "extra_names")
    declared = [_names.decode(name.encode()) for name in _listed(group, "slots")]
    record = Record(
        source=f"arrayoptim {version}",
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
    for slot, path, array in unpacked(group) if version > 1 else ():
        if slot not in declared:
            raise ValueError(f"found arrays of {slot!r}, wanted one of {', '.join(declared)}")
        _add(record, slot, path, array)
    for slot, paths in (record.paths or {}).items():
        if len(set(paths)) < len(paths):
            raise ValueError(f"found two arrays of {slot} for one parameter, wanted one")
    return replace(record, paths=None) if group.attrs.get("unnamed") else record


def _read_config(record: Record, text: str | None) -> None:
    if text is not None:
        record.config = _config.loads(text)
        record.notes += [
            f"config entry {name} was {what}, which no file holds"
            for name, what in _config.unserializable(record.config).items()
        ]


def _place(record: Record, stored: Stored) -> None:
    """Add a dataset to the record according to its attributes."""
    slot, parameter = stored.text("slot"), stored.text("parameter")
    found = f"{stored.name}: found slot {slot!r} and parameter {parameter!r}"
    if slot is None:
        raise ValueError(f"{found}, wanted both as attributes")
    if parameter is None and slot == ITERATIONS and record.iterations is None:
        record.iterations = counter(stored)
    elif parameter is None and slot != ITERATIONS and slot not in {*record.scalars, *record.slots}:
        record.scalars[slot] = float(number(stored))
    elif parameter is not None and slot in record.slots:
        _add(record, slot, parameter, stored)
    else:
        raise ValueError(f"{found}, wanted one of the slots {', '.join(record.slots)}, each once")


def _add(record: Record, slot: str, parameter: str, array: Any) -> None:
    assert record.paths is not None
    record.slots[slot].append(array)
    record.paths[slot].append(parameter)


def _listed(group: Any, name: str) -> list[str]:
    names = get_names(group, name)
    if names is None:
        raise ValueError(f"found no attribute {name}, wanted a list of names: not a whole file")
    return names


def _whole(group: Any, name: str, least: int = 0) -> int:
    value = group.attrs.get(name)
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: found {value!r}, wanted an integer from {least}")
    return int(value)
