"""The base of schedules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._typing import Namespace, Scalar
from ..arrays.libraries import backend_of, is_array
from ..config.declared import Declared
from ..config.fields import label
from ..config.registry import SCHEDULES, Class, described, revive


class Schedule(Declared, ABC):
    """Base of the schedules: functions of the step number that know their configuration.

    A subclass declares its arguments with `number` in its body and implements `value`. The
    decorator `register` makes it possible to save it and to find it by name. A schedule is
    immutable.

    Parameters
    ----------
    name : str, optional
        An arbitrary name, as in Keras.

    Examples
    --------
    >>> import arrayoptim as ao
    >>> class RootDecay(ao.schedules.Schedule):
    ...     initial_learning_rate = ao.schedules.number("Value of the first step.", "[0, inf)")
    ...
    ...     def value(self, t, xp):
    ...         return self.initial_learning_rate / xp.sqrt(1.0 + t)
    >>> ao.SGD(lr=RootDecay(0.1))
    SGD(lr=RootDecay(initial_learning_rate=0.1), momentum=0.0, decay=0.0, nesterov=False)
    >>> RootDecay(0.1)(3)
    0.05
    """

    name: Any = label("An arbitrary name.", default=None, kw_only=True)

    def __call__(self, step: Any) -> Any:
        """Return the value at a step.

        Parameters
        ----------
        step : int, or array of int
            The number of steps taken before this one.

        Returns
        -------
        float or array
            A float for a number; for a NumPy or JAX array, traced or not, an array of its shape.
            In float32, steps are exact up to 2**24.

        Raises
        ------
        TypeError
            If `step` is not a number.
        """
        plain = type(step) is int or type(step) is float
        xp = None if plain else namespace(step)
        if xp is None:
            if not plain and (isinstance(step, str | bytes) or not hasattr(step, "__float__")):
                raise TypeError(f"{type(self).__name__}: found the step {step!r}, wanted a number")
            try:
                return float(self.value(float(step), np))
            except (OverflowError, ZeroDivisionError) as error:
                raise ValueError(
                    f"{self!r} has no finite value at step {step} ({error})"
                ) from error
        return self.value(xp.asarray(step, dtype=xp.asarray(0.0).dtype), xp)

    @abstractmethod
    def value(self, t: Scalar, xp: Namespace) -> Scalar:
        """Compute the value at a step.

        Parameters
        ----------
        t : float or array of float
            The step number, counted from 0; it may be a tracer, so do not branch on
            it.
        xp : module
            Array functions: `numpy`, or ``jax.numpy`` for arrays of JAX.
        """

    def _agree(self) -> None:
        """Raise if arguments contradict each other."""

    def _set(self, values: dict[str, Any]) -> None:
        super()._set(values)
        self._agree()
        self._made = True

    def __setattr__(self, name: str, value: Any) -> None:
        """Raise: a compiled step may depend on the schedule's current values."""
        if "_made" in vars(self):
            raise AttributeError(f"{type(self).__name__} cannot be changed; make another one")
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        """Whether the other is a schedule of the same class and configuration."""
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        """Return the hash of the class: compilers use functions as cache keys."""
        return hash(type(self))


def namespace(step: Any) -> Namespace | None:
    """Return the array functions for a step that is a NumPy array or a tracer."""
    if isinstance(step, np.ndarray | np.generic):
        return np
    if is_array(step) and backend_of(step).compiles:
        return backend_of(step).xp
    return None


def lesser(a: Scalar, b: Scalar, xp: Namespace) -> Scalar:
    """Return the smaller of two numbers, a float on the host; NaN propagates from the first."""
    # NumPy's function takes a microsecond, a tenth of a whole step.
    if xp is np and type(a) is float:
        return float(b) if b < a else a
    return xp.minimum(a, b)


def greater(a: Scalar, b: Scalar, xp: Namespace) -> Scalar:
    """Return the larger of two numbers, a float on the host; NaN propagates from the first."""
    if xp is np and type(a) is float:
        return float(b) if b > a else a
    return xp.maximum(a, b)


def value_of(part: Any, step: Any) -> Any:
    """Return the value of a schedule, or of a number in its place."""
    return part(step) if callable(part) else part


def register(cls: Class) -> Class:
    """Register a schedule class by its name, so that configurations and files can contain it.

    Parameters
    ----------
    cls : type
        A class with ``get_config`` and ``from_config`` whose instances are functions of the step,
        such as a subclass of `Schedule`.

    Returns
    -------
    type
        The same class, for use as a decorator.

    Raises
    ------
    TypeError
        If it lacks one of these methods.
    ValueError
        If another class is registered under that name, ignoring case.
    """
    wanted = ("__call__", "get_config", "from_config")
    lacking = [m for m in wanted if not any(m in vars(base) for base in cls.__mro__)]
    if lacking:
        raise TypeError(f"{cls.__name__} lacks {', '.join(lacking)}, which a schedule needs")
    return SCHEDULES.register(cls)


def names() -> list[str]:
    """Return the names of all registered schedules, in alphabetical order."""
    return SCHEDULES.names()


def serialize(schedule: Any) -> dict[str, Any]:
    """Return the class name and the configuration of a registered schedule.

    Raises
    ------
    ValueError
        If its class is not registered.
    """
    if not SCHEDULES.holds(type(schedule)):
        raise ValueError(f"found {schedule!r}, wanted a schedule of a registered class")
    return described(schedule)


def deserialize(config: Mapping[str, Any]) -> Any:
    """Make a schedule from a configuration of `serialize` or Keras 3, which is not changed.

    Parameters
    ----------
    config : dict
        ``{"class_name": ..., "config": {...}}``; other keys are ignored.

    Raises
    ------
    TypeError
        If it is not such a dict, or the configuration has a key that the class lacks.
    ValueError
        If the class is unknown, or a value is outside its interval.
    """
    if not isinstance(config, Mapping):
        raise TypeError(f"schedules.deserialize: found {config!r}, wanted a dict")
    return revive(config, "schedules.deserialize")
