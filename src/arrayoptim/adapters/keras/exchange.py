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
    """A variable of Keras, with the interface of a dataset in a file."""

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
    """Adopt the state of one of Keras 3's own optimizers.

    Parameters
    ----------
    optimizer : Optimizer
        One of this library's, of the same class.
    keras_optimizer : keras.optimizers.Optimizer
        One that has been built. It stays as it is.
    params : tree of arrays
        The parameters, of any array library, in the order of Keras's variables.
    hyperparameters : bool
        Whether to take over Keras's hyperparameters, with ``preset="keras3"`` where that is another
        formula, so that the training goes on exactly.
    strict : bool
        Whether every difference between state and parameters is an error. Otherwise what fits is
        loaded.

    Returns
    -------
    LoadReport
        What was restored, and what was left out.

    Raises
    ------
    TypeError
        If one of them is no optimizer of its library.
    ValueError
        If the classes differ, or the parameters. Nothing has changed then.

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
        One of this library's. It stays as it is.
    keras_optimizer : keras.optimizers.Optimizer
        One of the same class and hyperparameters, built for the same variables. Its learning rate
        is set, unless it is a schedule.
    params : tree of arrays
        The parameters, in the order of Keras's variables.

    Raises
    ------
    TypeError
        If one of them is no optimizer of its library.
    ValueError
        If the classes differ, or the slots, or the parameters. Nothing has changed then.

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
    """Say of how many parameters there is which slot."""
    return ", ".join(f"{slot} of {len(column)}" for slot, column in record.slots.items())


def _require_equal_weights(ours: Record) -> None:
    """Refuse a mean of unequal weights: Keras's follow from the count of steps."""
    total, count = ours.scalars.get("weight_sum"), ours.iterations
    if total is not None and total != count:
        raise ValueError(
            f"export_state: found the sum of weights {total!r} after {count} steps, wanted "
            f"{count}: in Keras all steps weigh alike, as with weight_lr_power=0"
        )


def _paths(
    record: Record, held: list[_Held], params: Mapping[str, Any], what: str
) -> dict[str, list[str]]:
    """Return by slot the paths of the parameters that have it in Keras, in its order."""
    order, found = list(params), dict[str, list[str]]()
    places = {id(each): k for k, each in enumerate(held)}
    firsts = [places[id(each)] for each in record.slots.get("momentum", ())]
    for slot, column in record.slots.items():
        chosen = order
        if record.class_name == "Adafactor":
            # Rows and columns are of matrices, and a mean of squares is of all else.
            matrix = slot != "velocity"
            chosen = [path for path in order if (len(params[path].shape) > 1) == matrix]
        elif record.class_name == "Muon" and slot == "velocity" and len(firsts) == len(order):
            # The velocity of a variable that Adam steps comes right after its momentum.
            chosen = [order[firsts.index(places[id(each)] - 1)] for each in column]
        if len(column) != len(chosen):
            raise ValueError(
                f"{what}: found {slot} of {len(column)} variables, wanted {len(chosen)}: "
                f"{listed(chosen)}"
            )
        found[slot] = chosen
    return found


def _record(optimizer: Any, native: Any, what: str) -> tuple[Record, list[_Held]]:
    """Return what Keras's variables hold, by the names of this library, and these variables."""
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
    # SGD under the preset differs only by the slot that it leaves out, not by a number.
    theirs = optimizer.presets.get("keras3", optimizer.form)
    if theirs not in {optimizer.form, "plain"}:
        warnings.warn(
            f"{type(optimizer).__name__}: the formula here is another than in Keras 3; "
            'preset="keras3" goes on exactly',
            stacklevel=3,
        )
