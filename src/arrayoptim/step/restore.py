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
    """Add the file's name to every error; errors in a file's content become ValueErrors."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"{readable(record.origin, None)}: {readable(str(error))}") from error


def lost(value: Any) -> bool:
    """Whether a value is, or wraps, a placeholder for something that files cannot hold."""
    if not isinstance(value, dict) or revivable(value):
        return False
    if value.keys().isdisjoint({"class_name", "unserializable"}):
        return False  # arguments of another library's optimizer
    name = value.get("class_name")
    return not (OPTIMIZERS.knows(name) or WRAPPERS.knows(name))


def refuse_lost(found: Mapping[str, Any]) -> None:
    """Refuse hyperparameters whose schedules could not be saved.

    Raises
    ------
    ValueError
        If there is such a hyperparameter.
    """
    if found:
        names = ", ".join(f"{name} ({value})" for name, value in found.items())
        raise ValueError(
            f"saved with a schedule for {names}, which files cannot hold; construct the optimizer "
            "with that schedule and call load_weights"
        )


@dataclass
class LoadReport:
    """The outcome of loading a file.

    Attributes
    ----------
    source : str
        The kind of file, such as ``"keras 2"``.
    restored : list of str
        What was restored.
    missing, unexpected, misshapen : list of str
        Entries that the optimizer has and the file lacks, entries that only the file has, and
        entries whose shapes differ. With ``strict=True`` these are errors instead.
    notes : list of str
        Remarks, such as on state that this kind of file does not hold.
    changed : list of str
        Hyperparameters whose values were replaced by those of the file.
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
        """The first few differences in one line; empty if there are none."""
        kinds = ("missing", "unexpected", "misshapen")
        found = {kind: getattr(self, kind) for kind in kinds}
        return "; ".join(f"{kind}: {listed(names)}" for kind, names in found.items() if names)


def by_name(
    saved: Sequence[str], wanted: Sequence[str], what: str = "the file"
) -> tuple[dict[str, int], list[str], list[str]]:
    """Match saved entries with wanted ones by name, whatever their order.

    Parameters
    ----------
    saved, wanted : sequence of str
        The saved and the wanted names.
    what : str
        How messages refer to the source of the saved entries.

    Returns
    -------
    found : dict of str to int
        The index in `saved` of each wanted name that is there, in the order of `wanted`.
    missing, unexpected : list of str
        The names only in `wanted`, and only in `saved`.

    Raises
    ------
    ValueError
        If a name occurs more than once on one side.
    """
    for names, owner in ((saved, what), (wanted, "the parameters")):
        if len(set(names)) < len(names):
            twice = listed([name for name, n in Counter(names).items() if n > 1])
            raise ValueError(f"{owner}: found {twice} more than once, wanted unique names")
    places = {name: k for k, name in enumerate(saved)}
    found = {name: places[name] for name in wanted if name in places}
    missing = [name for name in wanted if name not in places]
    return found, missing, [name for name in saved if name not in found]


def waiting(weights: Sequence[Any], class_name: str) -> list[np.ndarray]:
    """Return copies of a list of weights, before the parameters are known.

    Parameters
    ----------
    weights : sequence of array
        As for `from_list`.
    class_name : str
        The optimizer's class.

    Raises
    ------
    ValueError
        If an entry is not a numeric array, or the first entry is not a step counter although
        all lists of the class begin with one. Length and shapes cannot be checked yet.
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
    except (ValueError, TypeError) as error:  # ragged nested lists, arrays on a device
        raise ValueError(
            f"{name}: found something that NumPy cannot convert ({readable(str(error))}); "
            "wanted a numeric array, such as get_weights() returns"
        ) from error
    if _kind(found) not in _NUMBERS:
        raise ValueError(
            f"{name}: found {readable(repr(value))}, wanted a numeric array, such as "
            "get_weights() returns"
        )
    return array


_NUMBERS = frozenset({"float", "int", "uint", "complex"})


def from_list(state: State, weights: Sequence[Any], class_name: str) -> State:
    """Return the state that a list in Keras's order describes.

    Parameters
    ----------
    state : State
        The current state, which is not changed.
    weights : sequence of array
        ``[iterations, scalars..., slot by slot]``, or one of the shorter lists of Keras 2.0,
        with which scalars keep their current values, as in Keras.
    class_name : str
        The optimizer's class.

    Raises
    ------
    ValueError
        If the length, or the shape or dtype of an entry is wrong.
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
    # In a list without masters, masters become 0; the next step replaces them by the parameters.
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
    # A dataset in a file is not read just for this check.
    array = value if hasattr(value, "read") else np.asarray(value)
    wanted = backend_of(old).dtype(old)
    if tuple(array.shape) != tuple(old.shape):
        return f"found shape {tuple(array.shape)}, wanted {tuple(old.shape)}"
    if _kind(np.dtype(array.dtype).name) != _kind(wanted):
        return f"found data type {array.dtype}, wanted {wanted} or another dtype of that kind"
    return None


def _kind(dtype: str) -> str:
    return dtype.removeprefix("b").rstrip("0123456789")


def from_record(
    state: State, record: Record, *, strict: bool, after: Counted | None = None
) -> tuple[State, LoadReport]:
    """Return the state restored from a record.

    Parameters
    ----------
    state : State
        The current state, which is not changed.
    record : Record
        The content of the file.
    strict : bool
        Whether every difference is an error.
    after : callable, optional
        Returns the scalar state that follows from a step count, for files that lack it.

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
            f"its state does not fit these parameters. {report.faults}. "
            "strict=False loads what fits and returns a report"
        )
    if report.missing and record.iterations:
        report.notes.append(
            f"what is missing starts from its initial value, at the step count {record.iterations} "
            "of all the rest"
        )
    if record.iterations is not None:
        report.restored.append("iterations")
    if after is not None and not own:
        known = after(new.iterations)
        for name in new.scalars.keys() & known.keys() - record.scalars.keys():
            new.scalars[name] = known[name]
            report.restored.append(f"{name}, from the step count")
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
    """Refuse unnamed arrays that cannot be matched with the parameters by order.

    Raises
    ------
    ValueError
        If their number or a shape differs from that of the parameters.
    """
    found = [tuple(np.asarray(x).shape) for x in arrays]
    if found != [tuple(old.shape) for _, old in present]:
        raise ValueError(
            f"found {len(found)} arrays of {slot} without parameter names: "
            f"{listed([str(list(shape)) for shape in found])}; wanted {len(wanted)}: "
            f"{listed([str(leaf) for leaf in wanted])}. They cannot be matched by order; load the "
            "file with the parameters that it was saved with, and save it again "
            "with names"
        )


def _match_slot(
    slot: str, state: State, record: Record, report: LoadReport
) -> list[np.ndarray | None]:
    """Return the slot's array for each parameter that has the slot; None if missing in the file."""
    present = [(leaf, held[slot]) for name, leaf, held in state.entries() if name == slot]
    wanted = [leaf for leaf, _ in present]
    arrays = record.slots.get(slot)
    if arrays is None:
        # Only this library's files must hold the slot; other sources report its lack in their
        # notes.
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
