"""Constraints: projections of the parameters after each step, as in Keras 2.

Examples
--------
>>> import numpy as np
>>> import arrayoptim as ao
>>> opt = ao.SGD(lr=1.0, constraint=ao.constraints.NonNeg())
>>> opt.apply(np.array([1.0, -1.0]), np.array([0.5, 0.5]))
array([0. , 1.5])
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from ._typing import Array, Namespace
from .config.declared import Declared
from .config.fields import Field, number
from .config.hyper import Hyper
from .config.registry import CONSTRAINTS, Class, revive

__all__ = [
    "Box",
    "Constraint",
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "UnitNorm",
    "get",
    "max_norm",
    "min_max_norm",
    "names",
    "non_neg",
    "nonneg",
    "register",
    "unit_norm",
]

EPSILON = 1e-7
"""Keras 2's ``K.epsilon()``, which it adds to norms before it divides by them."""


class _Axes(Field):
    """The type of an argument that is one axis or several."""

    @property
    def wanted(self) -> str:
        """The values allowed, in words."""
        return "an integer, or a list of them"

    def checked(self, value: Any, owner: type[Any]) -> int | tuple[int, ...]:
        """Return an int, or a tuple of several."""
        if isinstance(value, list | tuple):
            axes = tuple(int(self._number(each, owner.__name__)) for each in value)
            if not axes or len(set(axes)) < len(axes):
                raise ValueError(f"{owner.__name__}.{self.name} must be {self.wanted}: {value!r}")
            return axes
        return int(self._number(value, owner.__name__))

    def to_config(self, value: int | tuple[int, ...]) -> int | list[int]:
        """Return an int, or a list of several."""
        return value if isinstance(value, int) else list(value)


def _axes() -> Any:
    return _Axes(0, "(-inf, inf)", "Axis or axes that a norm goes over.", integer=True)


class Constraint(Declared, ABC):
    """Base of the constraints: functions of a parameter with a configuration.

    A subclass declares its arguments with `number` in its body, like a schedule, and implements
    `applied`. The decorator `register` makes it possible to save it and to find it by name. A
    constraint is immutable.
    """

    @property
    def limits(self) -> tuple[float, float] | None:
        """The bounds of each entry, if the constraint is just that; otherwise None."""
        return None

    @abstractmethod
    def applied(self, p: Array, xp: Namespace) -> Array:
        """Return the projected parameter.

        Parameters
        ----------
        p : array
            The parameter, in the compute dtype; it may be a tracer.
        xp : module
            Array functions of its library.
        """

    def require(self, ndim: int, what: str) -> None:
        """Raise if a parameter with that many axes lacks one that the constraint needs.

        Raises
        ------
        ValueError
            If an axis is missing, or named twice.
        """
        axis = self._hyper.get("axis")
        axes = (axis,) if isinstance(axis, int) else axis or ()
        for each in axes:
            if not -ndim <= each < ndim:
                raise ValueError(f"{what} has {ndim} axes; {self!r} wants axis {each}")
        if len({each % ndim for each in axes}) < len(axes):
            raise ValueError(f"{what} has {ndim} axes; {self!r} names one of them twice")

    def _set(self, values: dict[str, Any]) -> None:
        super()._set(values)
        self._made = True

    def __setattr__(self, name: str, value: Any) -> None:
        """Raise: engines cache what they compile for a constraint."""
        if "_made" in vars(self):
            raise AttributeError(f"{type(self).__name__} cannot be changed; make another one")
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        """Whether the other has the same class and configuration."""
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        """Return a hash consistent with equality."""
        return hash((type(self), *self._hyper.values()))


def register(cls: Class) -> Class:
    """Register a constraint class by its name, so that configurations and files can contain it.

    Parameters
    ----------
    cls : type
        A subclass of `Constraint`.

    Returns
    -------
    type
        The same class, for use as a decorator.

    Raises
    ------
    TypeError
        If it is not a subclass of `Constraint`.
    ValueError
        If another class is registered under that name, ignoring case.
    """
    if not issubclass(cls, Constraint):
        raise TypeError(f"found {cls.__name__}, wanted a subclass of Constraint")
    return CONSTRAINTS.register(cls)


@register
class NonNeg(Constraint):
    """Nonnegative entries."""

    @property
    def limits(self) -> tuple[float, float]:
        """Zero and infinity."""
        return 0.0, math.inf

    def applied(self, p: Array, xp: Namespace) -> Array:
        """Return the parameter with negative entries set to zero."""
        return xp.maximum(p, 0.0 * xp.ones_like(p))


@register
class Box(Constraint):
    """Entries between two bounds.

    Parameters
    ----------
    low, high : float
        The bounds, rounded to the parameter's dtype.
    """

    low: Any = number("Smallest entry.", "[-inf, inf]", default=-math.inf)
    high: Any = number("Largest entry.", "[-inf, inf]", default=math.inf)

    def _set(self, values: dict[str, Any]) -> None:
        super()._set(values)
        if self.low > self.high:
            raise ValueError(f"Box: found low={self.low} and high={self.high}, wanted low <= high")

    @property
    def limits(self) -> tuple[float, float]:
        """The bounds."""
        return self.low, self.high

    def applied(self, p: Array, xp: Namespace) -> Array:
        """Return the clipped parameter."""
        one = xp.ones_like(p)
        return xp.minimum(xp.maximum(p, self.low * one), self.high * one)


@register
class MinMaxNorm(Constraint):
    """Euclidean norms between bounds, reached at once or gradually.

    Parameters
    ----------
    min_value, max_value : float in [0, inf]
        The bounds of the norms.
    rate : float in [0, 1]
        Fraction of the way to the nearest bound that a step moves.
    axis : int or list of int
        The axis or axes over which each norm is taken: 0 for the incoming weights of a dense Keras
        kernel, ``[0, 1, 2]`` for those of a convolution.
    """

    min_value: Any = number("Smallest norm.", "[0, inf]", default=0.0)
    max_value: Any = number("Largest norm.", "[0, inf]", default=1.0)
    rate: Any = number("Fraction of the way that a step moves.", "[0, 1]", default=1.0)
    axis: Any = _axes()

    def applied(self, p: Array, xp: Namespace) -> Array:
        """Return the scaled parameter."""
        norms, one = _norms(p, self.axis, xp)
        wanted = xp.minimum(xp.maximum(norms, self.min_value * one), self.max_value * one)
        wanted = self.rate * wanted + (1.0 - self.rate) * norms
        return p * (wanted / (EPSILON + norms))


@register
class MaxNorm(Constraint):
    """Euclidean norms up to a bound.

    Parameters
    ----------
    max_value : float in [0, inf]
        The upper bound.
    axis : int or list of int
        The axis or axes over which each norm is taken; see `MinMaxNorm`.
    """

    max_value: Any = number("Largest norm.", "[0, inf]", default=2.0)
    axis: Any = _axes()

    def applied(self, p: Array, xp: Namespace) -> Array:
        """Return the parameter, scaled down where its norm is too large."""
        norms, one = _norms(p, self.axis, xp)
        return p * (xp.minimum(norms, self.max_value * one) / (EPSILON + norms))


@register
class UnitNorm(Constraint):
    """Euclidean norms of one.

    Parameters
    ----------
    axis : int or list of int
        The axis or axes over which each norm is taken; see `MinMaxNorm`.
    """

    axis: Any = _axes()

    def applied(self, p: Array, xp: Namespace) -> Array:
        """Return the parameter divided by its norms."""
        norms, _ = _norms(p, self.axis, xp)
        return p / (EPSILON + norms)


def _norms(p: Array, axis: int | tuple[int, ...], xp: Namespace) -> tuple[Array, Array]:
    norms = xp.sqrt(xp.sum(xp.square(p), axis=axis, keepdims=True))
    return norms, xp.ones_like(norms)


max_norm, min_max_norm, unit_norm = MaxNorm, MinMaxNorm, UnitNorm
non_neg = nonneg = NonNeg


def names() -> list[str]:
    """Return the names of all registered constraints, in alphabetical order."""
    return CONSTRAINTS.names()


def get(identifier: Any) -> Constraint | None:
    """Return a constraint.

    Parameters
    ----------
    identifier : Constraint, str, dict or None
        A constraint; its name, with or without underscores; or its configuration, including Keras
        2's:
        ``{"class_name": ..., "config": {...}}``.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If the class is unknown, or a value is outside its interval.
    """
    found = identifier
    if isinstance(found, str):
        found = CONSTRAINTS.lookup(found.replace("_", ""))()
    if isinstance(found, Mapping):
        found = revive(found, "constraints.get", CONSTRAINTS)
    if found is not None and not isinstance(found, Constraint):
        raise TypeError(f"found {identifier!r}, wanted a constraint, its name or its configuration")
    return found


class Constrained(Hyper):
    """A hyperparameter whose value is a constraint."""

    per_group = True

    @property
    def wanted(self) -> str:
        """The values allowed, in words."""
        return "a constraint, its name or its configuration, or None"

    def checked(self, value: Any, owner: type[Any]) -> Constraint | None:
        """Return the constraint."""
        try:
            return get(value)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"{owner.__name__}.{self.name} must be {self.wanted}: {error}"
            ) from None
