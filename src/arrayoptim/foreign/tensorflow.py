"""TensorFlow and Keras optimizers for arrays of every library."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..arrays.libraries import backend_of
from ..arrays.trees import Structure, named
from .base import Foreign
from .handover import fresh, native_class, put_back
from .records import WHOLE, Entry

if TYPE_CHECKING:
    from typing_extensions import Self


class TFOptimizer(Foreign):
    """Use a TensorFlow or Keras optimizer with arrays of every library.

    TensorFlow variables are stepped directly; other arrays are copied to variables of this object
    and back each step.

    Parameters
    ----------
    optimizer : tf.compat.v1.train.Optimizer or keras.optimizers.Optimizer
        A new optimizer, without state; Keras's must use the TensorFlow backend.

    Raises
    ------
    TypeError
        If it is anything else, or wraps another optimizer.
    ValueError
        If it already has state, or Keras uses another backend.

    Notes
    -----
    ``native`` is the optimizer, with its hyperparameters. ``iterations`` advances by one per step;
    in Keras 2 it was two. All state is saved and restored, including Keras's ``learning_rate``; a
    Keras optimizer can be made from its configuration, one of ``tf.compat.v1.train`` cannot. A
    gradient of None leaves parameter and state unchanged; TensorFlow refuses a step without any
    gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorflow as tf  # doctest: +SKIP
    >>> import arrayoptim as ao
    >>> native = tf.compat.v1.train.GradientDescentOptimizer(0.5)  # doctest: +SKIP
    >>> ao.TFOptimizer(native).apply(np.ones(2), np.zeros(2))  # doctest: +SKIP
    array([-0.5, -0.5])
    """

    wanted = "a tf.compat.v1.train.Optimizer or a keras.optimizers.Optimizer"

    def __init__(self, optimizer: Any) -> None:
        keras = native_class("keras", "optimizers.Optimizer")
        v1 = native_class("tensorflow", "compat.v1.train.Optimizer")
        self._keras = keras is not None and isinstance(optimizer, keras)
        if self._keras:
            _require_tensorflow(optimizer)
            used = optimizer.built
        elif v1 is not None and isinstance(optimizer, v1):
            _refuse_nested(optimizer, v1)
            used = bool(optimizer.variables())
        else:
            raise TypeError(
                f"TFOptimizer: found {optimizer!r}, wanted {self.wanted}; OptaxOptimizer and "
                "TorchOptimizer take those of optax and torch"
            )
        if used:
            raise ValueError(
                f"TFOptimizer: found a {type(optimizer).__name__} that has state for variables "
                "already; wanted a new one"
            )
        self._variables: list[Any] = []
        self._slots: dict[int, tuple[str, int]] = {}
        super().__init__(optimizer)

    def _renew(self) -> None:
        if not self._variables:
            return
        self._variables, self._slots = [], {}
        if self._keras:
            self._native = type(self._native).from_config(self._native.get_config())
        else:
            # A v1 optimizer does not expose its arguments, so only its state is replaced.
            self._native = copy.copy(self._native)
            vars(self._native).update(_slots={}, _non_slot_dict={})

    def _build(self, leaves: Sequence[Array | None], structure: Structure) -> None:
        import tensorflow as tf

        if not tf.executing_eagerly():
            raise ValueError("TFOptimizer steps eagerly; call it outside of graphs")
        self._variables = [
            None if p is None else p if _is_variable(p) else tf.Variable(fresh(p), name=_name(path))
            for path, p in zip(structure.paths, leaves, strict=True)
        ]
        self._paths = structure.paths
        present = [v for v in self._variables if v is not None]
        if self._keras:
            self._build_keras(present)
        else:
            self._native._create_slots(present)

    def _build_keras(self, variables: list[Any]) -> None:
        """Have Keras create its variables, and map them to parameters."""
        native = self._native
        make = native.add_variable_from_reference
        places = {id(v): place for place, v in enumerate(self._variables) if v is not None}

        def noted(reference_variable: Any, name: Any = None, *args: Any, **kwargs: Any) -> Any:
            made = make(reference_variable, name, *args, **kwargs)
            self._slots[id(made)] = str(name), places[id(reference_variable)]
            return made

        native.add_variable_from_reference = noted
        try:
            native.build(variables)
        finally:
            del native.add_variable_from_reference

    def _advance(
        self,
        gradients: Sequence[Array | None],
        leaves: Sequence[Array | None],
        structure: Structure,
        **extra: Any,
    ) -> list[Array | None]:
        pairs = []
        for variable, p, g in zip(self._variables, leaves, gradients, strict=True):
            if p is not None and g is not None:
                if p is not variable:
                    variable.assign(_tensor(p))
                pairs.append((_tensor(g, variable.dtype), variable))
        self._native.apply_gradients(pairs)
        return [
            p if p is variable or g is None else put_back(variable.numpy(), p)
            for variable, p, g in zip(self._variables, leaves, gradients, strict=True)
        ]

    def _ready(self, leaves: Sequence[Array | None], structure: Structure) -> None:
        for path, variable, p in zip(structure.paths, self._variables, leaves, strict=False):
            if _is_variable(p) and p is not variable:
                raise ValueError(
                    f"{named(path)} is not the variable of the step before, for which "
                    "TensorFlow keeps the state; pass that one, or reset() the optimizer"
                )
        super()._ready(leaves, structure)

    def _rehearse(
        self, gradients: Sequence[Any], leaves: Sequence[Any], structure: Structure, **extra: Any
    ) -> list[Array | None]:
        kept = [p.numpy() if _is_variable(p) else None for p in leaves]
        twins = [p if _is_variable(p) else backend_of(p).copy(p) if p is not None else None
                 for p in leaves]  # fmt: skip
        try:
            new = self._step(gradients, twins, structure, **extra)
            return [backend_of(x).copy(x) if _is_variable(x) else x for x in new]
        finally:
            for p, value in zip(leaves, kept, strict=True):
                if value is not None:
                    p.assign(value)

    # ---- state

    def _native_state(self) -> list[Entry]:
        entries = self._keras_entries() if self._keras else self._v1_entries()
        # A class may have several variables of one name; their order distinguishes them.
        seen: dict[tuple[str, str], int] = {}
        distinct = []
        for e in entries:
            again = seen[e.slot, e.path] = seen.get((e.slot, e.path), 0) + 1
            distinct.append(e if again == 1 else Entry(f"{e.slot} {again}", e.path, e.array))
        return distinct

    def _keras_entries(self) -> list[Entry]:
        entries = []
        for variable in self._native.variables:
            name, place = self._slots.get(id(variable), (variable.name, None))
            path = WHOLE.path if place is None else self._paths[place]
            entries.append(Entry(name, path, variable))
        return entries

    def _v1_entries(self) -> list[Entry]:
        rows = [(p, v) for p, v in zip(self._paths, self._variables, strict=True) if v is not None]
        slots = [
            Entry(name, path, self._native.get_slot(variable, name))
            for name in self._native.get_slot_names()
            for path, variable in rows
        ]
        known = {id(entry.array) for entry in slots}
        others = [v for v in self._native.variables() if id(v) not in known]
        return [Entry(v.name.partition(":")[0], WHOLE.path, v) for v in others] + slots

    def _read(self, array: Any) -> np.ndarray:
        return np.array(array.numpy())

    def _fill(self, values: Mapping[tuple[str, str], np.ndarray]) -> None:
        for entry in self._native_state():
            entry.array.assign(values[entry.slot, entry.path])

    def _described(self) -> tuple[str, dict[str, Any] | None]:
        cls = type(self._native)
        if not self._keras:
            return f"tf.compat.v1.train.{cls.__name__}", None
        if native_class("keras", f"optimizers.{cls.__name__}") is not cls:
            return f"{cls.__module__}.{cls.__qualname__}", None
        return cls.__name__, self._native.get_config()

    @classmethod
    def _made(cls, name: str, arguments: dict[str, Any]) -> Self:
        import keras

        found = getattr(keras.optimizers, name, None)
        if not (isinstance(found, type) and issubclass(found, keras.optimizers.Optimizer)):
            raise ValueError(f"TFOptimizer: keras.optimizers has no {name!r}")
        _require_modules_of_keras(arguments)
        chosen: Any = found
        return cls(chosen.from_config(arguments))


def _require_tensorflow(optimizer: Any) -> None:
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(
            f"TFOptimizer: found a {type(optimizer).__name__} of Keras on {backend}, wanted Keras "
            "on TensorFlow: set KERAS_BACKEND=tensorflow before keras is imported"
        )


def _require_modules_of_keras(found: Any) -> None:
    """Raise if a configuration, perhaps from a file, would make Keras import a module."""
    if isinstance(found, Mapping):
        module = found.get("module")
        if module is not None and str(module).partition(".")[0] != "keras":
            raise ValueError(f"found the module {module!r} in a configuration, wanted keras's own")
        for value in found.values():
            _require_modules_of_keras(value)
    elif isinstance(found, list | tuple):
        for value in found:
            _require_modules_of_keras(value)


def _refuse_nested(optimizer: Any, v1: type[Any]) -> None:
    for name, value in vars(optimizer).items():
        if isinstance(value, v1):
            raise TypeError(
                f"TFOptimizer: found a {type(optimizer).__name__}, which holds another optimizer "
                f"as {name} and hides its state; wanted that one"
            )


def _is_variable(p: Any) -> bool:
    kind = native_class("tensorflow", "Variable")
    return kind is not None and isinstance(p, kind)


def _name(path: str) -> str:
    """Return a valid TensorFlow name, by which Keras can exclude a parameter from decay."""
    return re.sub(r"[^A-Za-z0-9_./-]", "_", path).lstrip("_./-") or "parameter"


def _tensor(x: Array, dtype: Any = None) -> Any:
    import tensorflow as tf

    found = x if backend_of(x).name == "tensorflow" else tf.constant(fresh(x))
    return found if dtype is None else tf.cast(found, dtype)
