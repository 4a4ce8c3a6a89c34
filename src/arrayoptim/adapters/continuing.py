"""Continuation of one optimizer's state, or loaded state, by another optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .._typing import Array
from ..optimizer import Optimizer
from ..persistence import Record
from ..step.checks import Leaf
from ..step.save_and_load import load, put_weights, record_of
from ..step.session import session_of
from ..step.state import State


def has_state(optimizer: Optimizer) -> bool:
    """Whether an optimizer has state to hand over, besides hyperparameters."""
    return optimizer.built or optimizer.iterations > 0 or session_of(optimizer).pending is not None


def twin(optimizer: Optimizer) -> Optimizer:
    """Return a new optimizer that adopts the state when it first sees parameters."""
    made = optimizer.again()
    made.iterations = optimizer.iterations
    theirs, own = session_of(optimizer), session_of(made)
    if optimizer.built:
        record = record_of(theirs)
        record.slots = {name: [read() for read in row] for name, row in record.slots.items()}
        record.origin = f"the state of {type(optimizer).__name__}"
        load(own, record, strict=True, hyperparameters=False)
    else:
        own.pending, own.strict = theirs.pending, theirs.strict
    return made


def begun(
    optimizer: Optimizer, params: Sequence[Array | None], leaves: tuple[Leaf | None, ...]
) -> State:
    """Return the initial state for some parameters, or the state that was loaded for them.

    Parameters
    ----------
    optimizer : Optimizer
        An optimizer that is not built. It is not changed.
    params : sequence of array or None
        The parameters, in the order of unnamed arrays.
    leaves : tuple of Leaf or None
        Their description.
    """
    session = session_of(optimizer)
    pending = session.pending
    if pending is None:
        return session.fresh(params, leaves)
    keeper = twin(optimizer)  # a session refers to its optimizer weakly
    own = session_of(keeper)
    own.pending = None
    own.replace(own.fresh(params, leaves))
    if isinstance(pending, list):
        put_weights(own, pending)
    else:
        load(own, _named(pending, leaves), strict=session.strict, hyperparameters=False)
    assert own.state is not None
    del keeper
    return own.state


def _named(record: Record, leaves: tuple[Leaf | None, ...]) -> Record:
    """Return the state of a list, or of a flat dict, keyed by the paths of these parameters."""
    if record.paths is None:
        return record
    places = {str(k): leaf.path for k, leaf in enumerate(leaves) if leaf}
    paths = list(places.values())
    flat = {path.replace("/", "~1"): path for path in paths}
    known = {"": paths[0], **places, **flat, **dict(zip(paths, paths, strict=True))}
    named = {slot: [known.get(path, path) for path in row] for slot, row in record.paths.items()}
    return replace(record, paths=named)
