"""Immutable snapshots of the hyperparameters, which determine a step together with the arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np

from .._typing import Namespace, Scalar
from ..config.groups import matches, members_of, require_matches
from ..config.hyper import Hyper
from ..config.per_model import Row, repeated
from ..config.scheduled import after_metric, first_numbers, keeps_numbers
from ..constraints import Constraint
from ..numerics.slots import Layout
from ..rules.cautious import cautious
from ..rules.rule import Rule
from .formula import Formula
from .member import Member, decay_of, effective, member_of, own_settings
from .spikes import COUNT, LOSS, NORM

Values = list[dict[str, Any]]
"""All hyperparameters of an optimizer at a step, then those that each of its groups sets."""


@dataclass(frozen=True, eq=False)
class Settings:
    """A snapshot of the hyperparameters of an optimizer and its groups.

    Attributes
    ----------
    sources : tuple of dict
        The hyperparameters of each member's formula; replaced, never modified.
    members : tuple of Member
        The settings of the optimizer and of each group.
    keeping : tuple of (str, callable)
        Schedules with state, with the prefix of its names.
    each, adaptive, frozen : bool
        Whether some gradients are clipped by their own norm, or by those of their units, and
        whether some parameters are frozen.
    guarded, loss_guarded : bool
        Whether steps are skipped on a spike of the gradient norm, or of the loss.
    measures : tuple of str
        Which norms are reported.
    watched : tuple of str
        Those of `measures` that are known only after a step.
    static : bool
        Whether no hyperparameter depends on the step.
    """

    sources: tuple[dict[str, Any], ...]
    members: tuple[Member, ...]
    keeping: tuple[tuple[str, Any], ...]
    each: bool
    adaptive: bool
    frozen: bool
    guarded: bool
    loss_guarded: bool
    measures: tuple[str, ...]
    watched: tuple[str, ...]
    static: bool
    _paths: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    _rounded: dict[Any, tuple[dict[str, Any], dict[str, Any], bool]] = field(default_factory=dict)
    _last: dict[str, Values] = field(default_factory=dict)

    @cached_property
    def whole(self) -> dict[str, Any]:
        """The hyperparameters of the optimizer itself, schedules not evaluated."""
        return self.sources[0]

    @cached_property
    def by_chance(self) -> bool:
        """Whether slots are rounded stochastically."""
        return bool(self.whole["stochastic_rounding"]) and self.whole["state_dtype"] is not None

    @cached_property
    def fixed(self) -> Values | None:
        """The hyperparameters of every step, if none depends on the step; else None."""
        return [member.values for member in self.members] if self.static else None

    @cached_property
    def lasting(self) -> Values | None:
        """All hyperparameters of each member at every step; None if they depend on the step."""
        values = self.fixed
        if values is None or any(decay_of(values[0] | own) for own in values):
            return None
        return [effective(values[0], own, 0) for own in values]

    @cached_property
    def unmeasured(self) -> bool:
        """Whether neither a stage of a step nor its report needs norms of the gradients."""
        ignored = self.whole["nonfinite"] == "ignore" and self.whole["clipnorm"] is None
        return ignored and not (self.guarded or self.loss_guarded or self.each or self.measures)

    @cached_property
    def _declared(self) -> list[dict[str, Hyper]]:
        """The declarations of the hyperparameters of each member."""
        whole = self.formula.hyperparameters
        return [{**whole, **member.formula.hyperparameters} for member in self.members]

    @property
    def formula(self) -> Formula:
        """The optimizer itself."""
        return self.members[0].formula

    def holds(self, formula: Formula) -> bool:
        """Whether the snapshot is current: no hyperparameter has been set since."""
        if self.sources[0] is not formula._hyper:
            return False
        if len(self.members) == 1:
            return True
        pairs = zip(self.sources, self.members, strict=True)
        return all(source is member.formula._hyper for source, member in pairs)

    # ---- settings by parameter

    def members_of(self, paths: Sequence[str]) -> list[int]:
        """Return the member number of each path; patterns are matched once for the same paths."""
        key = tuple(paths)
        if key not in self._paths:
            self._paths.clear()
            self._paths[key] = members_of(self.whole["groups"], key)
        return self._paths[key]

    def excluded(self, paths: Sequence[str]) -> list[bool]:
        """Return whether each parameter is exempt from both decays; empty if none is.

        Raises
        ------
        ValueError
            If a pattern matches no path.
        """
        patterns = self.whole["exclude"]
        if not patterns:
            return []
        require_matches(patterns, paths, "exclude")
        return [any(matches(path, pattern) for pattern in patterns) for path in paths]

    def require_sound(self) -> None:
        """Refuse options that cannot be combined with a rule, or with each other.

        Raises
        ------
        ValueError
            If there is such an option.
        """
        for member in self.members:
            h, rule = self.whole | member.values, member.formula.rule
            if self.whole["cautious"]:
                cautious(rule)
            if self.models is not None and (self.guarded or self.loss_guarded):
                option, of = (
                    ("skip_spikes", "norms") if self.guarded else ("skip_loss_spikes", "losses")
                )
                raise ValueError(
                    f"{option}: found models=, wanted one model: the {of} over all models "
                    'says little about one; nonfinite="skip" skips single models'
                )
            if h["corrected_decay"] and h["peak_lr"] is None:
                raise ValueError(
                    "corrected_decay=True: the decay is multiplied by lr / peak_lr, but found "
                    "peak_lr=None; pass the peak of the learning rate as peak_lr"
                )
            if h["cautious_decay"] and member.decays:
                raise ValueError(
                    f"cautious_decay=True: the rule {rule.name} decays weights itself; wanted "
                    "one for which the decay is a stage; leave cautious_decay out"
                )

    def layout(
        self, rule: Rule, constraint: Constraint | None = None, spares: bool = False
    ) -> Layout:
        """Return the slots of parameters with a rule, including those of stages.

        Parameters
        ----------
        rule : Rule
            The update rule.
        constraint : Constraint, optional
            The constraint on the new parameters.
        spares : bool
            Whether `cautious_decay` decays them after the rule.
        """
        h = self.whole
        extras = ("compensation",) * h["kahan"] or ("master",) * h["master"]
        if h["ema_momentum"] is not None:
            extras += ("average",)
        rule = cautious(rule) if h["cautious"] else rule
        whole = None if constraint is None or constraint.limits else constraint
        return _layout(rule, extras, h["state_dtype"], whole, spares and whole is not None)

    @cached_property
    def models(self) -> int | None:
        """Number of models that the first axis of parameters counts."""
        found: int | None = self.whole["models"]
        return found

    def initial_scalars(self) -> dict[str, float]:
        """Return the scalar state of the optimizer, its groups and its schedules.

        With `models` only that of shared schedules; see `initial_of_models`.
        """
        found = ({} if self.models is not None else self.owned()) | first_numbers(self.keeping)
        if self.guarded or self.loss_guarded:
            found = {**found, **COUNT}
            for guards, numbers in ((self.guarded, NORM), (self.loss_guarded, LOSS)):
                found |= numbers if guards else {}
        return found

    def initial_of_models(self) -> dict[str, Row] | None:
        """Return the scalar state of each model, as rows; None without `models`."""
        if self.models is None:
            return None
        return {name: repeated(value, self.models) for name, value in self.owned().items()}

    def owned(self) -> dict[str, float]:
        """Return the initial scalar state of the formulas."""
        owners = ((m.owner, m.formula) for m in self.members if m.owner is not None)
        return first_numbers(owners)

    # ---- settings by step

    def at(self, iterations: Scalar, scalars: Mapping[str, Scalar]) -> Values:
        """Return the hyperparameters of a step and those set by each group, schedules evaluated."""
        if self.fixed is not None:
            return self.fixed
        values = [member.at(iterations, scalars) for member in self.members]
        self._last["values"] = values
        return values

    def effective(self, values: Values, iterations: Scalar) -> Values:
        """Return all hyperparameters of each member; see `member.effective`."""
        if values is self.fixed and self.lasting is not None:
            return self.lasting
        return [effective(values[0], own, iterations) for own in values]

    def rounded(
        self, member: int, exact: dict[str, Any], compute: str, xp: Namespace
    ) -> dict[str, Any]:
        """Return hyperparameters rounded to a compute dtype, cached until they change."""
        known = self._rounded.get((member, compute)) if xp is np else None
        if known is not None and known[0] is exact:
            return known[1]
        old, found, scheduled = known or ({}, {}, False)
        # With one member, only the values of schedules in the result of `at` can have changed.
        at = self.fixed or self._last.get("values", [{}])
        if scheduled and exact is at[0]:
            found = found.copy()
            for name, _, row in self.members[0].scheduled:
                found[name] = row.rounded(exact[name], compute, xp)
        else:
            scheduled = len(self.members) == 1 and exact is at[0]
            found = found | self._changed(member, old, exact, compute, xp)
        if xp is np:
            self._rounded[member, compute] = exact, found, scheduled
        return found

    def _changed(
        self, member: int, old: dict[str, Any], exact: dict[str, Any], compute: str, xp: Namespace
    ) -> dict[str, Any]:
        """Return the rounded hyperparameters whose exact values have changed."""
        declared, preset = self._declared[member], exact.get("preset")
        loose = self.members[member].formula._unbounded
        return {
            name: declared[name].under(preset, loose).rounded(value, compute, xp)
            for name, value in exact.items()
            if old.get(name, _NOTHING) is not value
        }

    def observed(self, scalars: Mapping[str, Scalar], metric: Scalar) -> dict[str, Scalar]:
        """Return the scalar state after a metric was passed to the schedules that take one.

        Raises
        ------
        ValueError
            If there is no such schedule.
        """
        if not self.keeping:
            raise ValueError(
                f"{self.formula!r} has no schedule that takes a metric, such as schedules.Plateau"
            )
        fed = ((prefix, schedule, metric) for prefix, schedule in self.keeping)
        return after_metric(fed, scalars)


def settings_of(formula: Formula, known: Settings | None = None) -> Settings:
    """Return the snapshot of an optimizer; `known` itself if it is still valid."""
    if known is not None and known.holds(formula):
        return known
    groups = formula._hyper["groups"]
    whole = formula._hyper
    members = [member_of(0, formula, whole, whole, False, True)]
    for k, each in enumerate(groups, 1):
        own = each.optimizer is not None
        values = own_settings(each.optimizer) if own else dict(each.settings)
        scalars = own or bool(each.settings and formula.initial_scalars())
        inner = each.optimizer or formula
        members.append(member_of(k, inner, values, whole, each.freeze, scalars))
    rows = [member.values for member in members]
    return Settings(
        sources=tuple(member.formula._hyper for member in members),
        members=tuple(members),
        keeping=tuple(
            (f"{member.prefix}{name}.", value)
            for member in members
            for name, value in member.values.items()
            if keeps_numbers(value)
        ),
        each=any(row.get("clipnorm_per_tensor") is not None for row in rows),
        adaptive=any(row.get("agc") is not None for row in rows),
        frozen=any(member.frozen for member in members),
        guarded=whole["skip_spikes"] is not None,
        loss_guarded=whole["skip_loss_spikes"] is not None,
        measures=whole["measure"],
        watched=tuple(word for word in whole["measure"] if word != "gradient"),
        static=not any(member.schedules for member in members),
    )


_layout = cache(Layout)

_NOTHING = object()
