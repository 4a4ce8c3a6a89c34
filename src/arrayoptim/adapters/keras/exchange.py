"""Exchange of state between Keras's own optimizers and those of this library."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from ..._typing import Tree
from ...arrays.libraries import type_name
from ...arrays.trees import listed
from ...optimizer import Optimizer
from ...persistence import Record, interpret_keras3
from ...step.restore import LoadReport
from ...step.save_and_load import load_into, record_of
from ...step.session import session_of
from ..tree_order import in_order
from .optimizer import KerasOptimizer


class _Held:
    """A Keras variable, with the interface of a dataset in a file."""

    def __init__(self, variable: Any) -> None:
        self.variable, self.name = variable, str(getattr(variable, "path", variable.name))
        self.shape = tuple(variable.shape)
        self.dtype = self.read().dtype

    def read(self) -> np.ndarray:
        """Return the value on the host."""
        return np.asarray(keras.ops.convert_to_numpy(self.variable))


def load_state(
    optimizer: Optimizer,
    keras_optimizer: Any,
    params: Tree,
    hyperparameters: bool = True,
    strict: bool = True,
) -> LoadReport:
    """Load the state of one of Keras 3's own optimizers.

    Parameters
    ----------
    optimizer : Optimizer
        An optimizer of this library, of the same class.
    keras_optimizer : keras.optimizers.Optimizer
        A built optimizer of Keras. It is not changed.
    params : tree of arrays
        The parameters, of any array library, in the order of Keras's variables.
    hyperparameters : bool
        Whether to load Keras's hyperparameters, with ``preset="keras3"`` if the formulas differ, so
        that training continues exactly.
    strict : bool
        Whether every difference between state and parameters is an error. Otherwise, entries
        that fit are loaded.

    Returns
    -------
    LoadReport
        What was restored, and what was not.

    Raises
    ------
    TypeError
        If one of them is not an optimizer of its library.
    ValueError
        If the classes or the parameters differ. Nothing has changed then.

    Warns
    -----
    UserWarning
        If the two formulas differ.
    """
    record, held = _record(optimizer, keras_optimizer, "load_state")
    record.paths = _paths(record, held, in_order(params), "load_state")
    record.slots = {slot: [each.read() for each in column] for slot, column in record.slots.items()}
    report = load_into(
        session_of(optimizer), params, record, strict=strict, hyperparameters=hyperparameters
    )
    _say(optimizer)
    return report


def export_state(optimizer: Optimizer, keras_optimizer: Any, params: Tree) -> None:
    """Write the state into the variables of one of Keras 3's own optimizers.

    Parameters
    ----------
    optimizer : Optimizer
        An optimizer of this library. It is not changed.
    keras_optimizer : keras.optimizers.Optimizer
        An optimizer of the same class and hyperparameters, built for the same variables. Its
        learning rate is set, unless it is a schedule.
    params : tree of arrays
        The parameters, in the order of Keras's variables.

    Raises
    ------
    TypeError
        If one of them is not an optimizer of its library.
    ValueError
        If the classes, slots or parameters differ. Nothing has changed then.

    Warns
    -----
    UserWarning
        If the two formulas differ.
    """
    theirs, variables = _record(optimizer, keras_optimizer, "export_state")
    ours = record_of(session_of(optimizer))
    _require_equal_weights(ours)
    paths = _paths(theirs, variables, in_order(params), "export_state")
    pairs = []
    for slot, column in theirs.slots.items():
        held = dict(zip((ours.paths or {}).get(slot, ()), ours.slots.get(slot, ()), strict=True))
        lacking = [path for path in paths[slot] if path not in held]
        if lacking or len(column) != len(held):
            raise ValueError(
                f"export_state: found {slot} of {len(column)} variables, wanted {_counted(ours)}"
            )
        pairs += [(stored, held[path]()) for path, stored in zip(paths[slot], column, strict=True)]
    for stored, array in pairs:
        if stored.shape != array.shape:
            raise ValueError(
                f"export_state: {stored.name}: found shape {array.shape}, wanted {stored.shape}"
            )
    for stored, array in pairs:
        stored.variable.assign(array)
    steps = keras_optimizer.gradient_accumulation_steps or 1
    keras_optimizer.iterations.assign(optimizer.iterations * steps)
    if "m_schedule" in ours.scalars:
        keras_optimizer._u_product.assign(ours.scalars["m_schedule"])
    schedule = keras.optimizers.schedules.LearningRateSchedule
    if not isinstance(keras_optimizer._learning_rate, schedule):
        keras_optimizer.learning_rate = optimizer.lr
    _say(optimizer)


def _counted(record: Record) -> str:
    """Return a listing of how many parameters have each slot."""
    return ", ".join(f"{slot} of {len(column)}" for slot, column in record.slots.items())


def _require_equal_weights(ours: Record) -> None:
    """Refuse a weighted mean: Keras's weights follow from the step count alone."""
    total, count = ours.scalars.get("weight_sum"), ours.iterations
    if total is not None and total != count:
        raise ValueError(
            f"export_state: found the sum of weights {total!r} after {count} steps, wanted "
            f"{count}: in Keras all steps have equal weights, as with weight_lr_power=0"
        )


def _paths(
    record: Record, held: list[_Held], params: Mapping[str, Any], what: str
) -> dict[str, list[str]]:
    """Return for each slot the paths of the parameters that have it in Keras, in Keras's order."""
    order, found = list(params), dict[str, list[str]]()
    places = {id(each): k for k, each in enumerate(held)}
    firsts = [places[id(each)] for each in record.slots.get("momentum", ())]
    for slot, column in record.slots.items():
        chosen = order
        if record.class_name == "Adafactor":
            # Matrices have row and column slots, other parameters a full mean of squares.
            matrix = slot != "velocity"
            chosen = [path for path in order if (len(params[path].shape) > 1) == matrix]
        elif record.class_name == "Muon" and slot == "velocity" and len(firsts) == len(order):
            # The velocity of a variable stepped by Adam directly follows its momentum.
            chosen = [order[firsts.index(places[id(each)] - 1)] for each in column]
        if len(column) != len(chosen):
            raise ValueError(
                f"{what}: found {slot} of {len(column)} variables, wanted {len(chosen)}: "
                f"{listed(chosen)}"
            )
        found[slot] = chosen
    return found


def _record(optimizer: Any, native: Any, what: str) -> tuple[Record, list[_Held]]:
    """Return a record of Keras's variables by this library's names, and the variables."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{what}: found {optimizer!r}, wanted an optimizer of this library")
    if not isinstance(native, keras.optimizers.Optimizer) or isinstance(native, KerasOptimizer):
        raise TypeError(
            f"{what}: found {type_name(type(native))}, wanted one of Keras's own optimizers"
        )
    name = type(native).__name__
    if name.lower() != type(optimizer).__name__.lower():
        raise ValueError(f"{what}: found Keras's {name}, wanted {type(optimizer).__name__}")
    if not native.built:
        raise ValueError(
            f"{what}: Keras's {name} has no state yet; call its build(variables) first"
        )
    held: list[Any] = list(map(_Held, native.variables))
    found = interpret_keras3(held, name, native.get_config(), named=True)
    found.origin = f"Keras's {name}"
    return found, held


def _say(optimizer: Optimizer) -> None:
    # For SGD, the preset changes only which slots exist, not the results.
    theirs = optimizer.presets.get("keras3", optimizer.form)
    if theirs not in {optimizer.form, "plain"}:
        warnings.warn(
            f"{type(optimizer).__name__}: the formula here differs from Keras 3's; "
            'preset="keras3" continues exactly',
            stacklevel=3,
        )
