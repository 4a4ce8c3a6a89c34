"""The settings of one parameter group, and their values at a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple
from weakref import ReferenceType, ref

from .._typing import Scalar
from ..config.groups import OWN
from ..config.hyper import Hyper
from ..constraints import Constraint
from .formula import Formula


class Scheduled(NamedTuple):
    """A hyperparameter that depends on the step, with its declaration."""

    name: str
    schedule: Any
    declared: Hyper


@dataclass(frozen=True, eq=False)
class Member:
    """The settings of one parameter group; member 0 is for parameters in no group.

    Attributes
    ----------
    prefix : str
        Prefix of the names of its hyperparameters and schedules.
    reference : weakref.ref
        To the optimizer that provides rule and coefficients. Weak, because otherwise the
        optimizer and its state would be freed only by the garbage collector.
    values : dict
        The hyperparameters that the group sets, schedules not evaluated; all of them for member 0.
    schedules : tuple of str
        The names of those that are schedules.
    constraint : Constraint or None
        The projection applied to the parameters after a step.
    frozen : bool
        Whether the parameters are not stepped.
    owner : str or None
        Prefix of its scalar state's names; None if it shares that of the optimizer.
    decays : bool
        Whether its rule implements weight decay itself.
    """

    prefix: str
    reference: ReferenceType[Formula]
    values: dict[str, Any]
    schedules: tuple[str, ...]
    constraint: Constraint | None
    frozen: bool
    owner: str | None
    decays: bool

    @property
    def formula(self) -> Formula:
        """The optimizer that provides rule and coefficients."""
        return referred(self.reference)

    @cached_property
    def scheduled(self) -> tuple[Scheduled, ...]:
        """The hyperparameters that depend on the step."""
        declared, preset = self.formula.hyperparameters, self.values.get("preset")
        loose = self.formula._unbounded
        return tuple(
            Scheduled(name, self.values[name], declared[name].under(preset, loose))
            for name in self.schedules
        )

    def at(self, iterations: Scalar, scalars: Mapping[str, Scalar]) -> dict[str, Any]:
        """Return the values at a step, schedules evaluated."""
        if not self.schedules:
            return self.values
        values = self.values.copy()
        for name, schedule, declared in self.scheduled:
            values[name] = declared.at(schedule, iterations, scalars, self.prefix)
        return values


def referred(reference: ReferenceType[Formula]) -> Formula:
    """Return the referenced optimizer, which outlives all users of its settings."""
    formula = reference()
    assert formula is not None
    return formula


def member_of(
    k: int,
    formula: Formula,
    values: dict[str, Any],
    whole: dict[str, Any],
    frozen: bool,
    scalars: bool,
) -> Member:
    """Return the settings of group `k`; see `Member` for the arguments."""
    prefix = f"{k}." if k else ""
    schedules = tuple(name for name, value in values.items() if callable(value))
    constraint = values.get("constraint", whole["constraint"])
    owner = prefix if scalars else None
    decays = "wd" in formula.rule.coefficients
    return Member(prefix, ref(formula), values, schedules, constraint, frozen, owner, decays)


def own_settings(formula: Formula) -> dict[str, Any]:
    """Return the hyperparameters that an optimizer sets when used for a group of another."""
    return {
        name: formula._hyper[name]
        for name, declared in formula.hyperparameters.items()
        if declared.owner != "Options" or name in OWN
    }


def decay_of(values: dict[str, Any]) -> Scalar:
    """Return the decay of lr per step; None if there is none, or the values do not include it."""
    decay = values.get("decay")
    return None if decay is None or (isinstance(decay, float) and decay == 0.0) else decay


def effective(values: dict[str, Any], own: dict[str, Any], iterations: Scalar) -> dict[str, Any]:
    """Return the hyperparameters of a group, with lr decayed and weight decay relative to lr."""
    values = values if own is values else values | own
    decay = decay_of(values)
    if decay is not None:
        values = values | {"lr": values["lr"] / (1.0 + decay * iterations)}
    if values["peak_lr"] is None:
        return values
    decays = {k: v for k, v in values.items() if k.endswith("weight_decay") and v is not None}
    rate = values["lr"] if values["corrected_decay"] else 1.0
    return values | {k: rate * v / values["peak_lr"] for k, v in decays.items()}
