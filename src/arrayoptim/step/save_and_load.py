"""State as records of files, and as lists of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array, Tree
from ..arrays.libraries import backend_of, numpy_dtype
from ..config.keras import translate
from ..config.registry import ALIASES
from .restore import LoadReport, blaming, from_list, from_record, lost, refuse_lost, waiting
from .session import Session, whole_or_nothing
from .state import State

if TYPE_CHECKING:
    from .. import persistence


def put_weights(session: Session, weights: list[Any]) -> None:
    """Replace the state with a list in Keras's order, or keep the list until `init`."""
    name = type(session.formula).__name__
    with session.lock:
        if session.state is None:
            session.pending = waiting(weights, name)
        else:
            session.replace(from_list(session.state, weights, name))


def weights_of(session: Session) -> list[np.ndarray]:
    """Return the state as host arrays, in Keras's order; before `init`, the loaded weights."""
    if session.state is not None:
        return session.state.weights()
    if session.pending is None:
        return []
    if isinstance(session.pending, list):
        return [np.array(x) for x in session.pending]
    record = _record_of_pending(session, session.pending)
    scalars = [np.asarray(value, np.float64) for value in record.scalars.values()]
    arrays = [np.array(array()) for column in record.slots.values() for array in column]
    return [np.asarray(record.iterations, np.int64), *scalars, *arrays]


def record_of(session: Session) -> persistence.Record:
    """Return the record of an optimizer for saving to a file.

    Raises
    ------
    RuntimeError
        If a step was interrupted half-way.
    ValueError
        If there is no state yet.
    """
    from .. import persistence

    formula, state = session.formula, session.state
    if state is None and isinstance(session.pending, persistence.Record):
        return _record_of_pending(session, session.pending)
    if state is None:
        raise ValueError(f"{formula!r} has no state yet; call init(params) or take a step first")
    if state.interrupted:
        raise RuntimeError("a step was interrupted half-way, so this state cannot be saved")
    slots: dict[str, list[Any]] = {name: [] for name in state.names}
    paths: dict[str, list[str]] = {name: [] for name in state.names}
    for name, leaf, held in state.entries():
        slots[name].append(partial(_to_host, held[name]))
        paths[name].append(leaf.path)
    return persistence.Record(
        source="arrayoptim",
        class_name=type(formula).__name__,
        config=formula.get_config(),
        iterations=int(state.iterations),
        scalars=state.numbers,
        slots=slots,
        paths=paths,
        notes=[],
        skipped=int(state.skipped),
        together=next(filter(None, map(_company, state.slots)), None),
    )


def _company(slots: Mapping[str, Array]) -> persistence.Together | None:
    """Return the processes among which slots are sharded; None if they are not."""
    from .. import persistence

    found = filter(None, (backend_of(x).company(x) for x in slots.values()))
    return next((persistence.Together(*each) for each in found), None)


def _record_of_pending(session: Session, pending: persistence.Record) -> persistence.Record:
    """Return the record that was loaded before `init`, in the storage format now asked for."""
    formula, settings = session.formula, session.settings
    kinds = {
        name: kind
        for member in settings.members
        for name, kind in settings.layout(member.formula.rule).slots("float32").items()
    }
    slots = {
        slot: [partial(_in_form, array, slot, kinds.get(slot)) for array in arrays]
        for slot, arrays in pending.slots.items()
    }
    count = session.iterations
    scalars = {**settings.initial_scalars(), **formula.scalars_after(count), **pending.scalars}
    return replace(
        pending,
        source="arrayoptim",
        class_name=type(formula).__name__,
        config=formula.get_config(),
        iterations=count,
        scalars=scalars,
        slots=slots,
        notes=[],
        dialect=None,
        partial=False,
    )


def _in_form(array: Any, slot: str, kind: str | None) -> np.ndarray:
    """Return an array in the storage dtype of its slot.

    Raises
    ------
    ValueError
        If it would have to be encoded to int8 or decoded, which needs its parameter.
    """
    found = np.asarray(array)
    if kind is None or found.dtype.name not in ("float32", "bfloat16"):
        return found
    if kind not in ("float32", "bfloat16"):
        raise ValueError(
            f"{slot}: found {found.dtype}, wanted {kind}; call init(params) first, or save with "
            "another state_dtype"
        )
    return found.astype(numpy_dtype(kind))


def load(
    session: Session, record: persistence.Record, strict: bool, hyperparameters: bool
) -> LoadReport:
    """Restore state from a file; see `Optimizer.load_weights`."""
    formula = session.formula
    name = type(formula).__name__
    with session.lock, blaming(record):
        if record.class_name is not None and record.class_name.lower() != name.lower():
            raise ValueError(
                f"found the state of {record.class_name}, wanted {name}; arrayoptim.load() "
                "returns the optimizer that a file describes"
            )
        wanted, left_out = formula._hyper, list[str]()
        if hyperparameters:
            wanted, left_out = _recorded_hyper(session, record)
        record.notes.extend(f"not restored: {what}" for what in left_out)
        expected = record.fingerprint if strict else None
        changed = [
            f"{key}: {wanted[key]!r} from the file, was {value!r}"
            for key, value in formula._hyper.items()
            if wanted[key] is not value and wanted[key] != value
        ]
        state = session.state

        def keep() -> LoadReport:
            session.expected = expected
            formula._hyper, session.pending, session.strict = wanted, record.loaded(), strict
            session.first_iteration = record.iterations or 0
            notes = [*record.notes, "kept until init(params)"]
            return LoadReport(record.source, notes=notes, changed=changed)

        if state is None:
            return whole_or_nothing(session, keep)

        def change() -> LoadReport:
            formula._hyper = wanted
            own, after = _reshaped(session, state), formula.scalars_after
            new, report = from_record(own, record, strict=strict, after=after)
            session.replace(new)
            session.expected = expected
            report.changed += changed
            return report

        return whole_or_nothing(session, change)


def load_into(
    session: Session,
    params: Tree,
    record: persistence.Record,
    *,
    strict: bool = True,
    hyperparameters: bool = False,
    numbers: Mapping[str, float] | None = None,
) -> LoadReport:
    """Restore a record for these parameters and set the hyperparameters, atomically."""

    def change() -> LoadReport:
        if session.state is not None and session.state.interrupted:
            session.reset()
        if session.state is None and hyperparameters:  # which slots exist depends on them
            session.formula._hyper, _ = _recorded_hyper(session, record)
        session.ready(*session.flat(params))
        report = load(session, record, strict=strict, hyperparameters=hyperparameters)
        for name, value in (numbers or {}).items():
            setattr(session.formula, name, value)
        return report

    with session.lock:
        return whole_or_nothing(session, change)


def _reshaped(session: Session, state: State) -> State:
    """Return a zero state for the same parameters with the slots of the present rule."""
    layouts = session.assign(state.leaves).layouts
    rows = zip(state.leaves, layouts, state.slots, strict=True)
    same = all(
        leaf is None or layout is None or set(layout.slots(leaf.dtype)) == set(held)
        for leaf, layout, held in rows
    )
    if same and set(session.settings.initial_scalars()) == set(state.scalars):
        return state
    like = [next(iter(slots.values()), None) for slots in state.slots]
    if any(leaf and x is None for leaf, x in zip(state.leaves, like, strict=True)):
        raise ValueError("the optimizer in the file has other slots; load it before init(params)")
    return session.fresh(like, state.leaves)


def _recorded_hyper(
    session: Session, record: persistence.Record
) -> tuple[dict[str, Any], list[str]]:
    """Return the hyperparameters updated from the file, checked, and those that are lost."""
    cls, values = type(session.formula), dict(session.formula._hyper)
    own = record.source.startswith("arrayoptim")
    found, left_out = translate(cls.__name__, record.config or {}, record.dialect)
    config = {ALIASES.get(name, name): value for name, value in found.items()}
    missing = [k for k, v in config.items() if lost(v)]
    plain = [k for k in missing if isinstance(values.get(k), int | float | None)]
    refuse_lost({k: config[k] for k in plain})
    for name, declared in cls.hyperparameters.items():
        if own and name not in config and name != "name":
            values[name] = declared.default_under(config.get("preset"))
        elif name in config and name not in missing:
            values[name] = declared.checked(config[name], cls)
    return values, left_out


def _to_host(x: Array) -> np.ndarray:
    return backend_of(x).to_host(x)
