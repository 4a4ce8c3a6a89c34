"""Restoring saved state: every check comes before the first change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..arrays.libraries import backend_of
from ..arrays.trees import listed
from ..config.readable import readable
from ..config.registry import OPTIMIZERS, WRAPPERS, revivable
from ..config.validation import counter, finite
from .state import State

if TYPE_CHECKING:
    from ..persistence import Record


Counted = Callable[[int], Mapping[str, float]]


@contextmanager
def blaming(record: Record) -> Iterator[None]:
    """Name the file in every error; faults of a file become ValueErrors."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"{readable(record.origin, None)}: {readable(str(error))}") from error


def lost(value: Any) -> bool:
    """Whether a value stands for something that no file can hold, inside wrappers too."""
    if not isinstance(value, dict) or revivable(value):
        return False
    if value.keys().isdisjoint({"class_name", "unserializable"}):
        return False  # the arguments of an optimizer of another library
    name = value.get("class_name")
    return not (OPTIMIZERS.knows(name) or WRAPPERS.knows(name))


def refuse_lost(found: Mapping[str, Any]) -> None:
    """Refuse hyperparameters whose schedules no file could hold.

    Raises
    ------
    ValueError
        If there is one.
    """
    if found:
        names = ", ".join(f"{name} ({value})" for name, value in found.items())
        raise ValueError(
            f"saved with a schedule for {names}; construct the optimizer with that schedule and "
            "use load_weights"
        )


@dataclass
class LoadReport:
    """The outcome of loading a file.

    Attributes
    ----------
    source : str
        The kind of file, such as ``"keras 2"``.
    restored : list of str
        What was put back.
    missing, unexpected, misshapen : list of str
        What the optimizer has and the file lacks, the reverse, and what differs in shape. With
        ``strict=True`` these are errors instead.
    notes : list of str
        What this kind of file does not hold.
    changed : list of str
        Hyperparameters that the optimizer had otherwise before, and has from the file now.
    """

    source: str
    restored: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def faults(self) -> str:
        """The differences in one line, the first few of many; empty where there are none."""
        kinds = ("missing", "unexpected", "misshapen")
        found = {kind: getattr(self, kind) for kind in kinds}
        return "; ".join(f"{kind}: {listed(names)}" for kind, names in found.items() if names)


def by_name(
    saved: Sequence[str], wanted: Sequence[str], what: str = "the file"
) -> tuple[dict[str, int], list[str], list[str]]:
    """Match what was saved with what there is, in whatever order the two are.

    Parameters
    ----------
    saved, wanted : sequence of str
        The names on either side.
    what : str
        What messages call that which was saved.

    Returns
    -------
    found : dict of str to int
        The place among those saved of each that is wanted and there, in the order wanted.
    missing, unexpected : list of str
        Those that are only wanted, and only saved.

    Raises
    ------
    ValueError
        If a name stands for two things.
    """
    for names, owner in ((saved, what), (wanted, "the parameters")):
        if len(set(names)) < len(names):
            twice = listed([name for name, n in Counter(names).items() if n > 1])
            raise ValueError(f"{owner}: found {twice} more than once, wanted names that differ")
    places = {name: k for k, name in enumerate(saved)}
    found = {name: places[name] for name in wanted if name in places}
    missing = [name for name in wanted if name not in places]
    return found, missing, [name for name in saved if name not in found]


def waiting(weights: Sequence[Any], class_name: str) -> list[np.ndarray]:
    """Return copies of a list of weights whose parameters are not known yet.

    Parameters
    ----------
    weights : sequence of array
        As for `from_list`.
    class_name : str
        The optimizer's class.

    Raises
    ------
    ValueError
        If an entry is no array of numbers, or the first one no step counter where all lists of
        the class begin with it. Counts and shapes cannot be checked yet.
    """
    from ..persistence import keras2_saves_iterations

    found = [_of_numbers(x, f"{class_name} weights[{place}]") for place, x in enumerate(weights)]
    if found and keras2_saves_iterations(class_name):
        counter(found[0], f"{class_name} weights[0], iterations")
    return found


def _of_numbers(value: Any, name: str) -> np.ndarray:
    try:
        array = np.array(value)
        found = array.dtype.name
    except (ValueError, TypeError) as error:  # rows of several lengths, arrays on a device
        raise ValueError(
            f"{name}: found what NumPy makes no array of ({readable(str(error))}); wanted an "
            "array of numbers, such as get_weights() returns"
        ) from error
    if _kind(found) not in _NUMBERS:
        raise ValueError(
            f"{name}: found {readable(repr(value))}, wanted an array of numbers, such as "
            "get_weights() returns"
        )
    return array


_NUMBERS = frozenset({"float", "int", "uint", "complex"})


def from_list(state: State, weights: Sequence[Any], class_name: str) -> State:
    """Return the state that a list in Keras's order describes.

    Parameters
    ----------
    state : State
        The present state; it stays as it is.
    weights : sequence of array
        ``[iterations, scalars..., slot by slot]``, or one of the shorter lists of Keras 2.0, after
        which scalars stay as they are, as they do there.
    class_name : str
        The optimizer's class.

    Raises
    ------
    ValueError
        If count, shape or kind of an entry is wrong.
    """
    from ..persistence import keras2_saves_iterations

    entries = list(state.entries())
    keras = [entry for entry in entries if entry[0] not in {"master", "compensation"}]
    n_scalars, n_slots, n_keras = len(state.numbers), len(entries), len(keras)
    layouts = {1 + n_scalars + n_slots: (1, n_scalars), 1 + n_keras: (1, 0)}
    if not keras2_saves_iterations(class_name):
        layouts.setdefault(n_keras, (0, 0))
    layout = layouts.get(len(weights))
    if layout is None:
        raise ValueError(
            f"{class_name}: found {len(weights)} weights, wanted "
            f"{' or '.join(str(count) for count in layouts)}: iterations, "
            f"{n_scalars} scalars, then {n_slots} arrays ({', '.join(state.names)})"
        )
    new = state.copy()
    head, arrays = list(weights[: sum(layout)]), list(weights[sum(layout) :])
    if layout[0]:
        new.count(counter(head.pop(0), f"{class_name} weights[0], iterations"))
    numbers = new.numbers
    for name, value in zip(list(numbers)[: layout[1]], head, strict=True):
        numbers[name] = finite(value, f"{class_name} scalar {name}")
    new.numbers = numbers
    # A list without masters: zero masters are replaced by the parameters at the next step.
    chosen = entries if len(arrays) == n_slots else keras
    values = []
    for place, ((name, leaf, held), value) in enumerate(
        zip(chosen, arrays, strict=True), sum(layout)
    ):
        fault = _fault(value, held[name])
        if fault:
            raise ValueError(
                f"{class_name} weights[{place}], {name} of {_said(leaf.path)}: {fault}"
            )
        values.append(np.asarray(value))
    zeros = [np.zeros(leaf.part(leaf.shape), np.float32) for _, leaf, _ in entries[len(values) :]]
    new.put([*values, *zeros])
    return new


def _said(path: str) -> str:
    return repr(path) if path else "the parameter"


def _fault(value: Any, old: Array) -> str | None:
    # What is still in a file is not read for that.
    array = value if hasattr(value, "read") else np.asarray(value)
    wanted = backend_of(old).dtype(old)
    if tuple(array.shape) != tuple(old.shape):
        return f"found shape {tuple(array.shape)}, wanted {tuple(old.shape)}"
    if _kind(np.dtype(array.dtype).name) != _kind(wanted):
        return f"found data type {array.dtype}, wanted {wanted} or another of that kind"
    return None


def _kind(dtype: str) -> str:
    return dtype.removeprefix("b").rstrip("0123456789")


def from_record(
    state: State, record: Record, *, strict: bool, after: Counted | None = None
) -> tuple[State, LoadReport]:
    """Return the state that a file describes.

    Parameters
    ----------
    state : State
        The present state; it stays as it is.
    record : Record
        What the file holds.
    strict : bool
        Whether every difference is an error.
    after : callable, optional
        Returns the scalar state that follows from a count, for files that lack it.

    Raises
    ------
    ValueError
        With ``strict``, if anything is missing, unexpected or misshapen.
    """
    unkept = [f"left out: {what}" for what in record.unkept]
    report = LoadReport(record.source, notes=[*record.notes, *unkept])
    new = state.copy()
    values = []
    own = record.source.startswith("arrayoptim")
    for slot in {**dict.fromkeys(state.names), **record.slots}:
        if slot == "average" and not own and slot not in state.names:
            report.notes.append("the moving averages of the model are left out")
            continue
        values += _match_slot(slot, state, record, report)
    if record.iterations is not None:
        new.count(record.iterations)
        new.skipped = record.skipped
    _match_scalars(new, record, report)
    if strict and report.faults:
        raise ValueError(
            f"the state in it does not fit these parameters. {report.faults}. "
            "strict=False loads what fits and returns a report"
        )
    if report.missing and record.iterations:
        report.notes.append(
            f"what is missing begins as before the first step, at the count {record.iterations} of "
            "all others"
        )
    if record.iterations is not None:
        report.restored.append("iterations")
    if after is not None and not own:
        known = after(new.iterations)
        for name in new.scalars.keys() & known.keys() - record.scalars.keys():
            new.scalars[name] = known[name]
            report.restored.append(f"{name}, from the count")
    found = iter(values)
    present = [next(found) for _ in new.entries()]
    for (name, _, slots), value in zip(list(new.entries()), present, strict=True):
        if value is not None:
            slots[name] = backend_of(slots[name]).from_host(np.asarray(value), slots[name])
    return new, report


def _match_scalars(new: State, record: Record, report: LoadReport) -> None:
    numbers = new.numbers
    for name in numbers:
        if name in record.scalars:
            numbers[name] = record.scalars[name]
            report.restored.append(name)
        elif record.source.startswith("arrayoptim"):
            report.missing.append(name)
    report.unexpected += [name for name in record.scalars if name not in numbers]
    new.numbers = numbers


def _require_alike(
    slot: str, arrays: Sequence[Any], present: Sequence[tuple[Any, Any]], wanted: Sequence[Any]
) -> None:
    """Refuse arrays without names where their order cannot be that of the parameters.

    Raises
    ------
    ValueError
        If their number or a shape differs.
    """
    found = [tuple(np.asarray(x).shape) for x in arrays]
    if found != [tuple(old.shape) for _, old in present]:
        raise ValueError(
            f"found {len(found)} arrays of {slot} without names of parameters: "
            f"{listed([str(list(shape)) for shape in found])}; wanted {len(wanted)}: "
            f"{listed([str(leaf) for leaf in wanted])}. Others than these cannot be matched by "
            "their order; load it beside the parameters that it was saved with, and save it again "
            "by names"
        )


def _match_slot(
    slot: str, state: State, record: Record, report: LoadReport
) -> list[np.ndarray | None]:
    """Return the slot's array for each parameter that has it; None where the file has none."""
    present = [(leaf, held[slot]) for name, leaf, held in state.entries() if name == slot]
    wanted = [leaf for leaf, _ in present]
    arrays = record.slots.get(slot)
    if arrays is None:
        # A source that never keeps this slot says so in its notes; its own files must hold it.
        if record.source.startswith("arrayoptim"):
            report.missing += [f"{slot} of {leaf}" for leaf in wanted]
        return [None] * len(wanted)
    if record.paths is not None:
        places, _, others = by_name(record.paths[slot], [leaf.path for leaf in wanted])
        found = [arrays[places[leaf.path]] if leaf.path in places else None for leaf in wanted]
        report.unexpected += [f"{slot} of {path}" for path in others]
    else:
        _require_alike(slot, arrays, present, wanted)
        found = list(arrays)
    for place, ((leaf, old), value) in enumerate(zip(present, found, strict=True)):
        fault = _fault(value, old) if value is not None else None
        if value is None:
            report.missing.append(f"{slot} of {leaf}")
        elif fault:
            report.misshapen.append(f"{slot} of {_said(leaf.path)}: {fault}")
            found[place] = None
        else:
            report.restored.append(f"{slot} of {leaf.path}" if leaf.path else slot)
    return list(found)
