"""The settings of the parameters of one group, and what they are at a step."""

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
    """A hyperparameter that depends on the step, with the declaration that holds for it."""

    name: str
    schedule: Any
    declared: Hyper


@dataclass(frozen=True, eq=False)
class Member:
    """The settings of the parameters of one group; member 0 is for those in no group.

    Attributes
    ----------
    prefix : str
        What stands before the names of its hyperparameters and schedules.
    reference : weakref.ref
        To the optimizer whose rule and coefficients hold; else no optimizer would be free before
        the garbage collector runs, nor its state.
    values : dict
        What the group sets, schedules as they are; all hyperparameters for member 0.
    schedules : tuple of str
        Which of these are schedules.
    constraint : Constraint or None
        What parameters are brought back to.
    frozen : bool
        Whether parameters stay as they are.
    owner : str or None
        What stands before the names of its scalar state; None where it has that of the whole.
    decays : bool
        Whether its rule decays weights by itself.
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
        """The optimizer whose rule and coefficients are used."""
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
        """Return the values of a step, schedules as numbers."""
        if not self.schedules:
            return self.values
        values = self.values.copy()
        for name, schedule, declared in self.scheduled:
            values[name] = declared.at(schedule, iterations, scalars, self.prefix)
        return values


def referred(reference: ReferenceType[Formula]) -> Formula:
    """Return the optimizer of a reference, which outlives whoever uses its settings."""
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
    """Return what the parameters of group `k` have; see `Member` for what it is made from."""
    prefix = f"{k}." if k else ""
    schedules = tuple(name for name, value in values.items() if callable(value))
    constraint = values.get("constraint", whole["constraint"])
    owner = prefix if scalars else None
    decays = "wd" in formula.rule.coefficients
    return Member(prefix, ref(formula), values, schedules, constraint, frozen, owner, decays)


def own_settings(formula: Formula) -> dict[str, Any]:
    """Return what an optimizer sets for a group of another one."""
    return {
        name: formula._hyper[name]
        for name, declared in formula.hyperparameters.items()
        if declared.owner != "Options" or name in OWN
    }


def decay_of(values: dict[str, Any]) -> Scalar:
    """Return by what lr is decayed per step; None where it is not, or the values do not say."""
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
