"""Learning rates that Keras accepts: numbers, schedules, functions with or without a step."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from ...config.keras import PACKAGE
from ...config.registry import describe, revivable, revive
from ...config.scheduled import keeps_numbers
from ...schedules import Schedule


@keras.saving.register_keras_serializable(PACKAGE)
class FunctionSchedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A function of the step number as a Keras schedule.

    Parameters
    ----------
    function : callable
        Returns the learning rate of a step, counted from 0. It is called with a number on the
        torch backend, elsewhere with a tensor of ``keras.config.floatx()``. A model can be saved
        if Keras can serialize the function.
    """

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step."""
        if keras.backend.backend() == "torch":
            return self.function(int(step))
        return self.function(keras.ops.cast(step, keras.config.floatx()))

    def get_config(self) -> dict[str, Any]:
        """Return the function as serialized by Keras."""
        if isinstance(self.function, Schedule):
            return {"function": describe(self.function)}
        return {"function": keras.saving.serialize_keras_object(self.function)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FunctionSchedule:
        """Return the schedule that `get_config` described."""
        if revivable(config["function"]):
            return cls(revive(config["function"], cls.__name__))
        return cls(keras.saving.deserialize_keras_object(config["function"]))


def takes_nothing(rate: Any) -> bool:
    """Whether a learning rate is a function without arguments, as Keras allows."""
    if not inspect.isroutine(rate):
        return False
    try:
        wanted = inspect.signature(rate).parameters.values()
    except ValueError:
        return False  # some C functions have no signature
    return all(each.kind is each.KEYWORD_ONLY for each in wanted)


def without_rate(words: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Remove and return a learning rate that only Keras can evaluate; None if it is not one."""
    rate = words.get("lr")
    return ({**words, "lr": 0.0}, rate) if takes_nothing(rate) else (words, None)


def as_schedule(rate: Any) -> Any:
    """Return a function of the step number as a schedule; anything else unchanged."""
    if not callable(rate) or isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return rate
    if keeps_numbers(rate):
        raise TypeError(
            f"learning_rate: found {rate!r}, which has state; Keras has "
            "callbacks for that, such as ReduceLROnPlateau"
        )
    if isinstance(rate, Schedule):  # whose signature would be that of its constructor
        return FunctionSchedule(rate)
    if takes_nothing(rate):
        return rate
    return FunctionSchedule(rate)
