"""Exchange of state between Keras's own optimizers and those of this library."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np

from ..._typing import Tree
from ...arrays.trees import listed
from ...optimizer import Optimizer
from ...persistence import Record, interpret_keras3
from ...step.persistent import load_into, record_of
from ...step.restore import LoadReport
from ...step.session import session_of
from ..order import in_order
from .optimizer import KerasOptimizer

_BY_FILE = frozenset({"Adafactor", "Muon", "ScheduleFreeAdamW"})


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
    record = _record(optimizer, keras_optimizer, "load_state")
    paths = list(in_order(params))
    record.slots = {slot: [held.read() for held in column] for slot, column in record.slots.items()}
    for slot, arrays in record.slots.items():
        if len(arrays) != len(paths):
            raise ValueError(
                f"load_state: found {slot} of {len(arrays)} variables, wanted {len(paths)}: "
                f"{listed(paths)}"
            )
    record.paths = dict.fromkeys(record.slots, paths)
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
    theirs = _record(optimizer, keras_optimizer, "export_state")
    ours, order = record_of(session_of(optimizer)), list(in_order(params))
    pairs = []
    for slot, column in theirs.slots.items():
        if slot not in ours.slots or len(column) != len(order):
            raise ValueError(
                f"export_state: found {slot} of {len(column)} variables, wanted "
                f"{', '.join(ours.slots)} of {len(order)}"
            )
        held = dict(zip((ours.paths or {})[slot], ours.slots[slot], strict=True))
        pairs += [(stored, held[path]()) for path, stored in zip(order, column, strict=True)]
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


def _record(optimizer: Any, native: Any, what: str) -> Record:
    """Return the content of Keras's variables, under this library's names."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{what}: found {optimizer!r}, wanted an optimizer of this library")
    if not isinstance(native, keras.optimizers.Optimizer) or isinstance(native, KerasOptimizer):
        raise TypeError(
            f"{what}: found a {type(native).__module__}.{type(native).__qualname__}, wanted one of "
            "Keras's own optimizers"
        )
    name = type(native).__name__
    if name.lower() != type(optimizer).__name__.lower():
        raise ValueError(f"{what}: found Keras's {name}, wanted {type(optimizer).__name__}")
    if name in _BY_FILE:
        raise ValueError(
            f"{what}: found Keras's {name}, whose state is exchanged by files only; save the model "
            "and use arrayoptim.load"
        )
    if not native.built:
        raise ValueError(
            f"{what}: Keras's {name} has no state yet; call its build(variables) first"
        )
    held: list[Any] = list(map(_Held, native.variables))
    found = interpret_keras3(held, name, native.get_config(), named=True)
    found.origin = f"Keras's {name}"
    return found


def _say(optimizer: Optimizer) -> None:
    # SGD under the preset differs only by the slot that it leaves out, not by a number.
    theirs = optimizer.presets.get("keras3", optimizer.form)
    if theirs not in {optimizer.form, "plain"}:
        warnings.warn(
            f"{type(optimizer).__name__}: the formula here is another than in Keras 3; "
            'preset="keras3" goes on exactly',
            stacklevel=3,
        )
