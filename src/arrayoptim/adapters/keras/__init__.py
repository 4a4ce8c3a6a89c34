"""The optimizers as subclasses of `keras.optimizers.Optimizer`, for ``compile`` and custom loops.

Every registered optimizer is an attribute of this module, under its name::

    sgd = arrayoptim.keras.SGD(lr=0.01, decay=1e-6, momentum=0.9, nesterov=True)
    model.compile(loss="mean_squared_error", optimizer=sgd)

On Keras's torch backend, the engines of this library write into the variables in place; on
JAX and TensorFlow, the rule is traced into the compiled step.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from ...config.keras import PACKAGE, identified
from ...config.other_libraries import spelled
from ...config.registry import lookup, names
from ...optimizer import Optimizer
from ..continuing import has_state
from .arguments import in_words_of_keras, ours_of
from .exchange import export_state, load_state
from .optimizer import KERAS_OPTIONS, KerasOptimizer
from .rates import FunctionSchedule

__all__ = ["FunctionSchedule", "KerasOptimizer", "export_state", "get", "load_state", "wrap"]

_CLASSES: dict[type[Optimizer], type[KerasOptimizer]] = {}


def _class_of(cls: type[Optimizer]) -> type[KerasOptimizer]:
    """Return the Keras class of an optimizer class, made on first use and known to Keras."""
    if cls not in _CLASSES:
        body: dict[str, Any] = {"optimizer_class": cls, "__doc__": cls.__doc__}
        body |= {"__module__": __name__, "__signature__": inspect.signature(cls)}
        taken = {"lr", "name", *KERAS_OPTIONS}
        body |= {key: _forwarded(key) for key in cls.hyperparameters if key not in taken}
        made = type(cls.__name__, (KerasOptimizer,), body)
        _CLASSES[cls] = keras.saving.register_keras_serializable(PACKAGE)(made)
    return _CLASSES[cls]


def _forwarded(key: str) -> property:
    def read(self: KerasOptimizer) -> Any:
        return getattr(self._inner, ours_of(key, self._inner.preset))

    def write(self: KerasOptimizer, value: Any) -> None:
        # Keras's constructor sets its own options before `_inner` exists.
        if "_inner" in self.__dict__:
            if callable(value):
                raise TypeError(f"{type(self).__name__}.{key}: found a schedule, wanted a number")
            setattr(self._inner, ours_of(key, self._inner.preset), value)

    return property(read, write)


def __getattr__(name: str) -> type[KerasOptimizer]:
    """Return the Keras class of a registered optimizer."""
    if name in names():
        return _class_of(lookup(name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{spelled(name, 'keras')}")


def __dir__() -> list[str]:
    """Return all names, including those of the optimizers."""
    return sorted({*globals(), *names()})


def wrap(optimizer: Optimizer) -> KerasOptimizer:
    """Return a Keras optimizer with the hyperparameters and the state of one of this library.

    Parameters
    ----------
    optimizer : Optimizer
        Any optimizer of this library. It is not changed. Its `ema_momentum` becomes Keras's
        ``use_ema=True`` with that momentum. Its state, including loaded state, is adopted when the
        new optimizer is built: by the paths of the variables or, for the state of a list or of a
        file without names, by order.

    Returns
    -------
    KerasOptimizer
        A new optimizer.

    Raises
    ------
    TypeError
        If it is not an optimizer of this library, or a hyperparameter other than the learning
        rate is a schedule.
    ValueError
        If it has `models`.
    """
    if isinstance(optimizer, KerasOptimizer):
        return optimizer
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"found {optimizer!r}, wanted an optimizer of this library")
    config = optimizer.get_config()
    if "ema_momentum" in config:
        config["use_ema"] = True
    if "outputs" in type(optimizer).hyperparameters:
        config.setdefault("outputs", "first")
    made = _class_of(type(optimizer))(**in_words_of_keras(config))
    if has_state(optimizer):
        made._carry(optimizer)
    return made


def get(identifier: Any) -> KerasOptimizer:
    """Return a Keras optimizer by name, by configuration, or for an optimizer.

    Parameters
    ----------
    identifier : str, dict or optimizer
        The name of a registered class in any case, optionally prefixed by ``arrayoptim>``; the
        result of ``keras.optimizers.serialize``; or an optimizer of this library.

    Raises
    ------
    ValueError
        If the name is unknown, or `identifier` is none of these.
    """
    if isinstance(identifier, KerasOptimizer | Optimizer):
        return wrap(identifier)
    if isinstance(identifier, str):
        identifier = {"class_name": identifier, "config": {}}
    if not isinstance(identifier, Mapping) or not {"class_name", "config"} <= set(identifier):
        raise ValueError(
            f"found {identifier!r}, wanted an optimizer's name, its configuration or an optimizer "
            "of this library"
        )
    name, config = identified(identifier)
    return _class_of(lookup(str(name))).from_config(config)


# Keras finds a class by its registered name only once the class exists.
for _name in names():
    _class_of(lookup(_name))
