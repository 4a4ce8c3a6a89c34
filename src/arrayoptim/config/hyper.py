"""Hyperparameters: declared once, they validate, document and configure themselves."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, Protocol

import numpy as np

from .._typing import Namespace, Scalar
from ..arrays.calls import mismatch
from ..arrays.libraries import backend_of, is_array
from .registry import describe, revive


class _Owner(Protocol):
    """What has hyperparameters."""

    _hyper: dict[str, Any]

    def _moment(self) -> tuple[int, Mapping[str, Scalar]]:
        """Return the number of the next step, and the scalar state."""


MOST_STEPS = 2**63 - 1
"""The last step that a counter of 64 bits holds."""

REQUIRED: Any = inspect.Parameter.empty
"""The default of what a constructor must be given."""


class Interval:
    """A real interval such as ``[0, 1)``; its text is its definition."""

    def __init__(self, text: str) -> None:
        self.text = text
        low, high = text[1:-1].split(",")
        self.low, self.high = float(low), float(high)

    def __contains__(self, value: float) -> bool:
        """Whether the value lies in the interval; NaN lies in none."""
        above = value >= self.low if self.text[0] == "[" else value > self.low
        below = value <= self.high if self.text[-1] == "]" else value < self.high
        return above and below


@cache
def _largest(dtype: str, interval: Interval) -> float:
    """Return the largest number of a data type in an interval."""
    high = np.dtype(dtype).type(interval.high)
    return float(high if interval.high in interval else np.nextafter(high, 0))


@cache
def _smallest(dtype: str, interval: Interval) -> float:
    """Return the smallest number of a data type in an interval."""
    low = np.dtype(dtype).type(interval.low)
    with np.errstate(under="ignore"):
        return float(low if interval.low in interval else np.nextafter(low, np.inf))


@lru_cache(maxsize=4096)
def _nearest(value: float, dtype: str, interval: Interval) -> float:
    with np.errstate(over="ignore", under="ignore"):
        near = float(np.dtype(dtype).type(value))
    return max(min(near, _largest(dtype, interval)), _smallest(dtype, interval))


class Hyper:
    """A hyperparameter of an optimizer class: default, interval and meaning.

    As an attribute of a class it reads and writes the value of an instance, which is a number or,
    where an interval is declared, a schedule: any callable of the step number.

    Parameters
    ----------
    default : float, int, bool, str or None
        The default. Its type is the type wanted; None allows None, `REQUIRED` is none.
    interval : str, optional
        The values allowed, such as ``"[0, 1)"``.
    doc : str
        Meaning and unit.
    choices : tuple of str, optional
        The words allowed.
    integer : bool
        Whether only whole numbers are allowed.
    words : bool
        Whether the value is a sequence of str.
    keyword : bool
        Whether the constructor takes it by keyword only.
    static : bool
        Whether the rule itself depends on it, as on a number of iterations, and not a coefficient;
        a schedule is not allowed then.
    elsewhere : mapping of str to object, optional
        The default under a preset, where it is another.
    """

    name: str
    owner: str
    per_group = False
    """Whether a group of parameters may have one of its own, though it is no number."""

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
    ) -> None:
        self.default = default
        self.elsewhere = dict(elsewhere or {})
        self.interval = Interval(interval) if interval else None
        self.doc = doc
        self.choices = choices
        self.integer = integer
        self.words = words
        self.keyword = keyword
        self.static = static

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the name under which a class declares it."""
        self.name, self.owner = name, owner.__name__

    def __get__(self, instance: _Owner | None, owner: type | None = None) -> Any:
        """Return the value; that of the next step where a schedule is set."""
        if instance is None:
            return self
        value = instance._hyper[self.name]
        if not callable(value):
            return value
        return self.at(value, *instance._moment())

    def __set__(self, instance: _Owner, value: Any) -> None:
        """Check and set the value."""
        # Replaced, not changed: who holds the old dict can tell that it is out of date.
        new = self.checked(value, type(instance))
        instance._hyper = {**instance._hyper, self.name: new}

    @property
    def numeric(self) -> bool:
        """Whether the value is a number that a compiled step may take as an input."""
        return self.interval is not None and not self.static

    def default_under(self, preset: Any) -> Any:
        """Return the default where that preset is chosen; None for none."""
        return self.elsewhere.get(preset, self.default) if isinstance(preset, str) else self.default

    @property
    def required_in_config(self) -> bool:
        """Whether a configuration names it even when it has its default value."""
        return not self.keyword and self.default is not None

    @property
    def optional(self) -> bool:
        """Whether None is a value, which it is where it is a default."""
        return None in (self.default, *(self.elsewhere or {}).values())

    @property
    def wanted(self) -> str:
        """The values allowed, in words."""
        if self.words:
            text = "a str or a sequence of str"
        elif self.choices:
            text = " or ".join(repr(choice) for choice in self.choices)
        elif self.interval:
            text = ("a whole number in " if self.integer else "a number in ") + self.interval.text
        else:
            text = "True or False" if isinstance(self.default, bool) else "a str"
        return text + (" or None" if self.optional else "")

    def checked(self, value: Any, owner: type[Any]) -> Any:
        """Return the value in its own type.

        Parameters
        ----------
        value : object
            What was found.
        owner : type
            The class whose hyperparameter it is.

        Raises
        ------
        TypeError
            If it is of another kind.
        ValueError
            If it is outside the interval or not one of the choices.
        """
        if value is None and self.optional:
            return None
        if self.words:
            return self._several(value, owner.__name__)
        if self.choices or self.interval is None:
            return self._word(value, owner.__name__)
        if self.static:
            return self._number(value, owner.__name__)
        value = revive(value, f"{owner.__name__}.{self.name}")
        if is_function(value):
            return with_step(value, f"{owner.__name__}.{self.name}")
        return self._number(value, owner.__name__)

    def to_config(self, value: Any) -> Any:
        """Return the value as it stands in a configuration."""
        return describe(value)

    def at(
        self, schedule: Any, iterations: int, scalars: Mapping[str, Scalar], prefix: str = ""
    ) -> Any:
        """Return the checked value of a schedule at a step; see `value_at`."""
        found = value_at(schedule, iterations, scalars, f"{prefix}{self.name}.")
        if type(found) is float and self.interval and not self.integer and found in self.interval:
            return found
        return self._number(found, f"at step {iterations}: schedule of {self.owner}")

    def rounded(self, value: Any, dtype: str, xp: Namespace) -> Any:
        """Return a number as the nearest of a data type that the interval allows.

        Parameters
        ----------
        value : number, 0-d array or anything else
            A value; what is no real number comes back as it is.
        dtype : {"float32", "float64"}
            The data type.
        xp : module
            Array functions: `numpy`, or ``jax.numpy`` while a step is traced.
        """
        if not self.numeric or self.integer or value is None:
            return value
        if xp is np:
            return _nearest(value, dtype, self.interval)
        top = _largest(dtype, self.interval)
        near = xp.minimum(xp.asarray(xp.asarray(value), dtype=getattr(xp, dtype)), top)
        near = xp.maximum(near, _smallest(dtype, self.interval))
        return xp.asarray(near, dtype=xp.asarray(0.0).dtype)

    def _several(self, value: Any, owner: str) -> tuple[str, ...]:
        words = (value,) if isinstance(value, str) else value
        if not isinstance(words, list | tuple) or not all(isinstance(w, str) for w in words):
            raise TypeError(f"{owner}.{self.name} must be {self.wanted}, got {value!r}")
        return tuple(words)

    def _word(self, value: Any, owner: str) -> Any:
        kind = bool if isinstance(self.default, bool) else str
        if not isinstance(value, kind):
            raise TypeError(f"{owner}.{self.name} must be {self.wanted}, got {value!r}")
        if self.choices and value not in self.choices:
            raise ValueError(f"{owner}.{self.name} must be {self.wanted}, got {value!r}")
        return value

    def _number(self, value: Any, owner: str) -> float | int:
        fault = f"{owner}.{self.name} must be {self.wanted}, got {value!r}"
        if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
            raise TypeError(fault)
        if is_array(value) and backend_of(value).traced(value):
            raise TypeError(
                f"{owner}.{self.name}: found {type(value).__name__}, which stands for a number "
                "that a compiler or a transformation knows later; make the optimizer with a number "
                f'and give this one to stateless_apply in state["hyper"]["{self.name}"]'
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


class MachineEpsilon(Hyper):
    """A number for which None is the machine epsilon of the arithmetic."""

    def rounded(self, value: Any, dtype: str, xp: Namespace) -> Any:
        """Return a number as the nearest of a data type; see `Hyper.rounded`."""
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
) -> Any:
    """Declare a hyperparameter in the body of an optimizer class; see `Hyper`, the usual `kind`."""
    return kind(
        *(default, interval, doc),
        choices=choices,
        integer=integer,
        words=words,
        keyword=kw_only,
        static=static,
        elsewhere=elsewhere,
    )


def is_function(value: Any) -> bool:
    """Whether a value may be a schedule: a function, and neither a number nor a class."""
    return callable(value) and not isinstance(value, type) and not hasattr(value, "__float__")


def keeps_numbers(schedule: Any) -> bool:
    """Whether a value is a schedule that depends on more than the step, and keeps scalar state."""
    return callable(schedule) and hasattr(schedule, "initial_scalars")


def with_step(schedule: Any, what: str) -> Any:
    """Return a schedule that can be called with what `value_at` gives it.

    Raises
    ------
    TypeError
        If it takes other arguments.
    """
    wanted = ("the step number", "its numbers")[: 1 + keeps_numbers(schedule)]
    fault = mismatch(schedule, *wanted)
    if fault:
        raise TypeError(
            f"{what}: found the schedule {schedule!r}, wanted a function of "
            f"{' and '.join(wanted)}, such as lambda step: 0.1 ({fault})"
        )
    return schedule


def value_at(
    schedule: Any, iterations: Scalar, scalars: Mapping[str, Scalar], prefix: str
) -> Scalar:
    """Return the value of a schedule at a step.

    Parameters
    ----------
    schedule : callable
        A function of the step number; with ``initial_scalars``, of its own numbers too.
    iterations : int
        The step number, counted from 0.
    scalars : mapping of str to float
        Scalar state of the optimizer.
    prefix : str
        What stands before the names of the schedule's own.
    """
    if not keeps_numbers(schedule):
        return schedule(iterations)
    start = schedule.initial_scalars()
    return schedule(iterations, {k: scalars.get(prefix + k, v) for k, v in start.items()})


def square_root(value: Scalar, xp: Namespace) -> Scalar:
    """Return the root of a number that is not negative, a plain float on the host.

    Parameters
    ----------
    value : float in [0, inf)
        The number.
    xp : module
        Array functions: `numpy` on the host, ``jax.numpy`` while a step is traced.
    """
    return math.sqrt(value) if xp is np and value >= 0.0 else xp.sqrt(value)


def bias_correction(beta: Scalar, t: Scalar, xp: Namespace) -> Scalar:
    """Return ``1 - beta**t`` without cancellation, in single precision too.

    Parameters
    ----------
    beta : float in [0, 1)
        Decay rate of a moving average.
    t : int
        Number of terms averaged, counted from 1.
    xp : module
        Array functions: `numpy` on the host, ``jax.numpy`` while a step is traced.

    Returns
    -------
    float in (0, 1]
        The weight that the average has gathered, by which it is divided.
    """
    if xp is np and beta > 0.0 and t > 0:
        # A tenth of the time that NumPy takes for a number.
        return -math.expm1(t * math.log(beta))
    return -xp.expm1(t * xp.log(beta))


def finite(value: Any, what: str) -> float:
    """Return a finite number that came as a number or as an array that holds one.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in "iuf" or not np.isfinite(array):
        raise ValueError(f"{what}: found {value!r}, wanted a finite number")
    return float(array)


def counter(value: Any, what: str) -> int:
    """Return a step counter that came as an integer, or as a float or array that holds one.

    Raises
    ------
    ValueError
        If it is no whole number from 0 to `MOST_STEPS`.
    """
    array = np.asarray(value)
    fault = f"{what}: found {value!r}, wanted a whole number of at least 0"
    if array.shape != () or array.dtype.kind not in "iuf":
        raise ValueError(fault)
    number = array.item()
    if not number >= 0 or number == float("inf") or number != int(number):
        raise ValueError(fault)
    if number > MOST_STEPS:
        raise ValueError(f"{what}: found {value!r}, wanted at most {MOST_STEPS}, as int64 holds")
    return int(number)
