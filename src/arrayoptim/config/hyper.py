"""Hyperparameters: one declaration validates, documents and configures each."""

from __future__ import annotations

import inspect
import math
from collections.abc import Container, Mapping
from copy import copy
from functools import cache
from typing import Any, Protocol

import numpy as np

from .._typing import Namespace, Scalar
from ..arrays.libraries import backend_of, is_array
from .interval import ANYTHING, Interval, largest_in, nearest_in, smallest_in
from .per_model import Each, Row, one_by_one, row, several
from .registry import describe, refuse_nested, revive
from .scheduled import is_function, keeps_numbers, value_at, with_step


class _Owner(Protocol):
    """An object with hyperparameters."""

    _hyper: dict[str, Any]
    _unbounded: frozenset[str]

    def _moment(self) -> tuple[Any, Mapping[str, Scalar]]:
        """Return the step count and the scalar state."""

    def _fitting(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values checked against each other."""


REQUIRED: Any = inspect.Parameter.empty
"""Stands for the default of a required argument."""


class Hyper:
    """The declaration of a hyperparameter: default, interval and meaning.

    A descriptor that gets and sets the value of an instance, which is a number or, if an
    interval is declared, a schedule: any callable of the step count.

    Parameters
    ----------
    default : float, int, bool, str or None
        The default. Its type is the type required; None allows None, `REQUIRED` means no default.
    interval : str, optional
        The values allowed, such as ``"[0, 1)"``.
    doc : str
        Meaning and unit.
    choices : tuple of str, optional
        The strings allowed.
    integer : bool
        Whether only integers are allowed.
    words : bool
        Whether the value is a sequence of str.
    keyword : bool
        Whether it is a keyword-only argument of the constructor.
    static : bool
        Whether the rule itself depends on it (such as a number of iterations), not just its
        coefficients; schedules are not allowed then.
    elsewhere : mapping of str to object, optional
        The default under a preset, if different.
    wider : mapping of str to str, optional
        The interval under a preset, if wider.
    firm : bool
        Whether the rule departs from the formula outside the interval.
    """

    name: str
    owner: str
    per_group = False
    """Whether a parameter group may set it, although it is not a number."""

    def __init__(
        self,
        default: Any,
        interval: str | None = None,
        doc: str = "",
        *,
        choices: tuple[str, ...] = (),
        integer: bool = False,
        words: bool = False,
        keyword: bool = False,
        static: bool = False,
        elsewhere: Mapping[str, Any] | None = None,
        wider: Mapping[str, str] | None = None,
        firm: bool = False,
    ) -> None:
        self.default = default
        self._wider = {preset: Interval(text) for preset, text in (wider or {}).items()}
        self.elsewhere = dict(elsewhere or {})
        self.interval = Interval(interval) if interval else None
        self.doc = doc
        self.choices = choices
        self.integer = integer
        self.words = words
        self.keyword = keyword
        self.static = static
        self.firm = firm

    def __set_name__(self, owner: type, name: str) -> None:
        """Record the attribute name under which a class declares it."""
        self.name, self.owner = name, owner.__name__

    def __get__(self, instance: _Owner | None, owner: type | None = None) -> Any:
        """Return the value; a schedule is evaluated at the next step."""
        if instance is None:
            return self
        value = instance._hyper[self.name]
        if not callable(value):
            return value
        found = self.within(instance).at(value, *instance._moment())
        return np.array(found) if several(found) else found

    def __set__(self, instance: _Owner, value: Any) -> None:
        """Check and set the value."""
        if isinstance(value, list | tuple | dict):
            refuse_nested(value, f"{type(instance).__name__}.{self.name}")
        # Replaced, not modified, so that snapshots which hold the old dict can detect the change.
        new = self.within(instance).checked(value, type(instance))
        instance._hyper = instance._fitting({**instance._hyper, self.name: new})

    @property
    def numeric(self) -> bool:
        """Whether the value is a number that a compiled step can take as an input."""
        return self.interval is not None and not self.static

    def within(self, instance: _Owner) -> Hyper:
        """Return the declaration as it holds for an instance."""
        return self.under(instance._hyper.get("preset"), instance._unbounded)

    def under(self, preset: Any, unbounded: Container[str] = ()) -> Hyper:
        """Return the declaration under a preset, or under None for no preset.

        Parameters
        ----------
        preset : str or None
            The preset.
        unbounded : container of str
            The hyperparameters that may be any number, see `Declared.taking`.
        """
        if self.name in unbounded and not (self.integer or self.firm):
            return _unbounded(self)
        if preset not in self._wider:
            return self
        found = copy(self)
        found.interval = self._wider[preset]
        return found

    def default_under(self, preset: Any) -> Any:
        """Return the default under a preset, or under None for no preset."""
        return self.elsewhere.get(preset, self.default) if isinstance(preset, str) else self.default

    @property
    def required_in_config(self) -> bool:
        """Whether a configuration must include it even if it has its default value."""
        return not self.keyword and self.default is not None

    @property
    def optional(self) -> bool:
        """Whether None is allowed, which it is if it is a default."""
        return None in (self.default, *(self.elsewhere or {}).values())

    @property
    def wanted(self) -> str:
        """Description of the values allowed."""
        if self.words:
            text = "a str or a sequence of str"
            if self.choices:
                text += f", each of them {' or '.join(map(repr, self.choices))}"
        elif self.choices:
            text = " or ".join(repr(choice) for choice in self.choices)
        elif self.interval:
            text = ("an integer in " if self.integer else "a number in ") + self.interval.text
        else:
            text = "True or False" if isinstance(self.default, bool) else "a str"
        return text + (" or None" if self.optional else "")

    def checked(self, value: Any, owner: type[Any]) -> Any:
        """Return the value converted to its declared type.

        Parameters
        ----------
        value : object
            The value.
        owner : type
            The class that has the hyperparameter.

        Raises
        ------
        TypeError
            If it has the wrong type.
        ValueError
            If it lies outside the interval or is not one of the choices.
        """
        if value is None and self.optional:
            return None
        if self.words:
            return self._several(value, owner.__name__)
        if self.choices or self.interval is None:
            return self._word(value, owner.__name__)
        if self.static:
            return self._number(value, owner.__name__)
        if is_array(value) and len(value.shape) == 1 and not backend_of(value).traced(value):
            value = backend_of(value).to_host(value).tolist()
        if isinstance(value, list | tuple):
            return Each([self.checked(one, owner) for one in value])
        value = revive(value, f"{owner.__name__}.{self.name}")
        if is_function(value):
            return with_step(value, f"{owner.__name__}.{self.name}")
        return self._number(value, owner.__name__)

    def to_config(self, value: Any) -> Any:
        """Return the value in the form of a configuration."""
        return describe(value)

    def at(
        self, schedule: Any, iterations: Any, scalars: Mapping[str, Scalar], prefix: str = ""
    ) -> Any:
        """Return the checked value of a schedule at a step, or at one step per model."""
        if type(iterations) is not int and several(iterations) and not isinstance(schedule, Each):
            return row([self.at(schedule, int(t), scalars, prefix) for t in iterations])
        if keeps_numbers(schedule):
            found = value_at(schedule, iterations, scalars, f"{prefix}{self.name}.")
        else:
            found = schedule(iterations)
        if type(found) is float and self.interval and not self.integer and found in self.interval:
            return found
        where = f"at step {iterations}: schedule of {self.owner}"
        if isinstance(found, Row):
            if found.flags.writeable:
                for number in found.tolist():
                    self._number(number, where)
            return found
        return self._number(found, where)

    def rounded(self, value: Any, dtype: str, xp: Namespace) -> Any:
        """Return the nearest number in the interval that the dtype can represent.

        Parameters
        ----------
        value : number, 0-d array or anything else
            A value; anything but a real number is returned unchanged.
        dtype : {"float32", "float64"}
            The dtype.
        xp : module
            Array functions: `numpy`, or ``jax.numpy`` while a step is traced.
        """
        if self.interval is None or not self.numeric or self.integer or value is None:
            return value
        if xp is np:
            return nearest_in(value, dtype, self.interval)
        top = largest_in(dtype, self.interval)
        near = xp.minimum(xp.asarray(xp.asarray(value), dtype=getattr(xp, dtype)), top)
        near = xp.maximum(near, smallest_in(dtype, self.interval))
        return xp.asarray(near, dtype=xp.asarray(0.0).dtype)

    def _several(self, value: Any, owner: str) -> tuple[str, ...]:
        words = (value,) if isinstance(value, str) else value
        kinds = (list, tuple, set, frozenset) if self.choices else (list, tuple)
        if not isinstance(words, kinds) or not all(isinstance(w, str) for w in words):
            raise TypeError(f"{owner}.{self.name} must be {self.wanted}, got {value!r}")
        if not self.choices:
            return tuple(words)
        if not {*words} <= {*self.choices}:
            raise ValueError(f"{owner}.{self.name} must be {self.wanted}, got {value!r}")
        return tuple(word for word in self.choices if word in words)

    def _word(self, value: Any, owner: str) -> Any:
        kind = bool if isinstance(self.default, bool) else str
        if not isinstance(value, kind):
            raise TypeError(f"{owner}.{self.name} must be {self.wanted}, got {value!r}")
        if self.choices and value not in self.choices:
            raise ValueError(f"{owner}.{self.name} must be {self.wanted}, got {value!r}")
        return value

    def _number(self, value: Any, owner: str) -> float | int:
        fault = f"{owner}.{self.name} must be {self.wanted}, got {value!r}"
        odd = str | bytes if self.interval is ANYTHING else bool | str | bytes
        if isinstance(value, odd) or not hasattr(value, "__float__"):
            raise TypeError(fault)
        if is_array(value) and backend_of(value).traced(value):
            raise TypeError(
                f"{owner}.{self.name}: found a {type(value).__name__}, a tracer without a value; "
                "construct the optimizer with a number, and pass this one to stateless_apply "
                f'in state["hyper"]["{self.name}"]'
            )
        try:
            number = float(value)
        except OverflowError:
            raise ValueError(fault) from None
        except (TypeError, ValueError) as error:
            raise TypeError(f"{fault} ({error})") from None
        assert self.interval is not None
        if number not in self.interval or (self.integer and not number.is_integer()):
            raise ValueError(fault)
        return int(number) if self.integer else number


@cache
def _unbounded(declared: Hyper) -> Hyper:
    found = copy(declared)
    if declared.interval is not None:
        found.interval = ANYTHING
    return found


class GroupFlag(Hyper):
    """A bool that parameter groups may set."""

    per_group = True


class MachineEpsilon(Hyper):
    """A number for which None means the machine epsilon of the compute dtype."""

    def rounded(self, value: Any, dtype: str, xp: Namespace) -> Any:
        """Return the value rounded to a dtype; see `Hyper.rounded`."""
        return float(np.finfo(dtype).eps) if value is None else super().rounded(value, dtype, xp)


def hyper(
    *,
    default: Any = REQUIRED,
    interval: str | None = None,
    doc: str = "",
    choices: tuple[str, ...] = (),
    integer: bool = False,
    words: bool = False,
    kw_only: bool = False,
    static: bool = False,
    kind: type[Hyper] = Hyper,
    elsewhere: Mapping[str, Any] | None = None,
    wider: Mapping[str, str] | None = None,
    firm: bool = False,
) -> Any:
    """Declare a hyperparameter in the body of an optimizer class; see `Hyper` for the arguments."""
    return kind(
        *(default, interval, doc),
        choices=choices,
        integer=integer,
        words=words,
        keyword=kw_only,
        static=static,
        elsewhere=elsewhere,
        wider=wider,
        firm=firm,
    )


def square_root(value: Scalar, xp: Namespace) -> Scalar:
    """Return the square root of a non-negative number; a plain float on the host.

    Parameters
    ----------
    value : float in [0, inf)
        The number.
    xp : module
        Array functions: `numpy` on the host, ``jax.numpy`` while a step is traced.
    """
    plain = xp is np and type(value) is float and value >= 0.0
    return math.sqrt(value) if plain else xp.sqrt(value)


def in_float32(value: Scalar, xp: Namespace) -> Scalar:
    """Return a number rounded to float32, without a change of type.

    Parameters
    ----------
    value : float
        The number.
    xp : module
        Array functions: `numpy` on the host, ``jax.numpy`` while a step is traced.
    """
    if isinstance(value, float):
        return float(np.float32(value))
    return value.astype(xp.float32).astype(value.dtype)


def either(condition: Any, yes: Scalar, no: Scalar, xp: Namespace) -> Scalar:
    """Return the first value where a condition holds, else the second.

    Parameters
    ----------
    condition : bool or array of bool
        The condition; a plain bool avoids the cost of an array function, about a microsecond.
    yes, no : scalar
        The values.
    xp : module
        Array functions: `numpy` on the host, ``jax.numpy`` while a step is traced.
    """
    if type(condition) is bool:
        return yes if condition else no
    return xp.where(condition, yes, no)


def bias_correction(beta: Scalar, t: Scalar, xp: Namespace) -> Scalar:
    """Return ``1 - beta**t`` without cancellation, also in single precision.

    Parameters
    ----------
    beta : float
        Decay rate of a moving average, in [0, 1) but for what other libraries allow.
    t : int
        Number of terms averaged, counted from 1.
    xp : module
        Array functions: `numpy` on the host, ``jax.numpy`` while a step is traced.

    Returns
    -------
    float
        The total weight of the average's terms, by which the average is to be divided; in (0, 1] if
        `beta` is in [0, 1).
    """
    # Subtracted from 0, as the weight is 0 and not -0 where beta is 1.
    if type(beta) is float and type(t) is int and beta > 0.0:
        # Ten times as fast as NumPy's function.
        return 0.0 - math.expm1(t * math.log(beta))
    if type(beta) is Row or type(t) is Row:
        return one_by_one(lambda b, k: float(bias_correction(b, k, np)), beta, t)
    if isinstance(beta, float):
        return 1.0 - beta**t if beta < 0.0 else 0.0 - xp.expm1(t * xp.log(beta))
    return xp.where(beta < 0.0, 1.0 - beta**t, 0.0 - xp.expm1(t * xp.log(beta)))
