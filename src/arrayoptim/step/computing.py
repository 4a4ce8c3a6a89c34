"""The numbers of one step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from .._typing import Array, Namespace, Scalar
from ..arrays.libraries import COMPUTE, backend_of
from ..engines import Prepared, Step, limited
from ..numerics.rounding import step_seed
from ..rules.rule import Rule
from .assignment import Assignment, Numbers
from .clipping import Measured, measured
from .formula import Fixed, Formula
from .state import State
from .totals import Measure, Totals, totals

_UNMEASURED = Measured()


class Computing(Formula):
    """The part of `arrayoptim.Optimizer` that computes what arrays of a step have in common."""

    def _measure(
        self,
        values: list[dict[str, Any]],
        gradients: Sequence[Array | None],
        prepared: Prepared | None = None,
        unscale: float = 1.0,
        norm: Scalar | None = None,
    ) -> Measured:
        """Measure the gradients as far as a stage of the step needs it.

        The norm is that of more gradients than these where a caller knows it.
        """
        whole, fixed = values[0], self._fixed()
        stays = whole["nonfinite"] == "ignore"
        if stays and whole["clipnorm"] is None and norm is None and not fixed.each:
            return _UNMEASURED if unscale == 1.0 else Measured(unscale=unscale)
        if prepared is not None and norm is None:
            # Whether to go on, and the true size of scaled gradients, are for the host to say.
            waits = fixed.each or fixed.adaptive or unscale != 1.0 or not stays
            pending = None if waits else prepared.norm(gradients)
            if pending is not None:
                return Measured(pending)
        squares = prepared.squares(gradients) if prepared and (norm is None or fixed.each) else None
        return measured(gradients, squares, fixed.each, unscale, norm)

    def _refuses(self, size: Measured, iterations: int) -> bool:
        if size.norm is None or self.nonfinite == "ignore" or np.isfinite(float(size.norm)):
            return False
        if self.nonfinite == "raise":
            raise ValueError(
                f"{self.name or type(self).__name__}: a gradient has a NaN or infinite entry at "
                f"step {iterations}; nothing has changed"
            )
        return True

    def _values(self, state: State) -> list[dict[str, Any]]:
        """Give the hyperparameters of a step, and what each group sets, schedules as numbers."""
        fixed, found = self._fixed(), []
        rows = zip(fixed.formulas, fixed.values, fixed.schedules, strict=True)
        for k, (formula, values, schedules) in enumerate(rows):
            declared, prefix = formula.hyperparameters, f"{k}." if k else ""
            now = {
                name: declared[name].at(values[name], state.iterations, state.scalars, prefix)
                for name in schedules
            }
            found.append(values | now if now else values)
        return found

    def _observed(self, scalars: Mapping[str, Scalar], metric: Scalar) -> dict[str, Scalar]:
        """Give the scalar state after a metric was fed to the schedules that take one."""
        keeping = self._fixed().keeping
        if not keeping:
            raise ValueError(
                f"{self!r} has no schedule that is fed a metric, such as schedules.Plateau"
            )
        new = dict(scalars)
        for prefix, schedule in keeping:
            own = {name: scalars[prefix + name] for name in schedule.initial_scalars()}
            new |= {prefix + name: v for name, v in schedule.observed(own, metric).items()}
        return new

    def _steps(
        self,
        values: list[dict[str, Any]],
        state: State,
        assignment: Assignment,
        size: Measured,
        xp: Namespace,
        measure: Measure,
    ) -> tuple[list[Step], dict[str, Scalar]]:
        """Compute everything of a step that does not depend on the single array.

        Where the numbers depend on totals over all arrays, these are measured first.
        """
        known = values, state, assignment, size, xp
        nothing = dict.fromkeys(range(len(values)), dict.fromkeys(assignment.totals, 0.0))
        found = self._numbered(*known, nothing)
        if not assignment.totals:
            return found
        measured = totals(found[0], measure, assignment.members, xp)
        return self._numbered(*known, {k: {**nothing[k], **measured.get(k, {})} for k in nothing})

    def _numbered(
        self,
        values: list[dict[str, Any]],
        state: State,
        assignment: Assignment,
        size: Measured,
        xp: Namespace,
        totals: Totals,
    ) -> tuple[list[Step], dict[str, Scalar]]:
        """Compute the numbers of a step, given the totals that each formula wants.

        For each type of arithmetic the hyperparameters are rounded to it first, and only then
        combined, in double precision: so 1 - beta is the complement of the beta that an array is
        multiplied with, and the weights of a moving average add up to 1 in float32 too.
        """
        it = _number(state.iterations, xp)
        exact = [effective(values[0], own, it) for own in values]
        # Those of schedules stay: they change when a metric comes, see `_observed`.
        scalars = dict(state.scalars)
        fixed = self._fixed()
        inner = fixed.inner
        for member, prefix, formula in inner if state.scalars else ():
            h = SimpleNamespace(**exact[member])
            held = {**_own(state.scalars, prefix), **totals[member]}
            found = _computed(formula, h, it, held, xp)
            _require_all(found, formula.initial_scalars(), formula, "its scalar state")
            scalars |= {prefix + name: found[name] for name in formula.initial_scalars()}
        prefixes = {member: prefix for member, prefix, _ in inner}

        def table(rule: Rule, member: int, compute: str) -> Numbers:
            h = self._rounded(fixed, exact[member], member, compute, xp)
            formula = fixed.formulas[member]
            held = {**_own(state.scalars, prefixes.get(member, "")), **totals[member]}
            found = _computed(formula, h, it, held, xp)
            _require_all(found, rule.given, formula, f"the rule {rule.name}")
            return found | self._stage_values(formula.rule, h, size, xp)

        seed = self._step_seed(state.iterations, xp)
        steps = []
        for part in assignment.parts:
            numbers = {
                compute: assignment.merged(
                    {member: table(part.layout.rule, member, compute) for member in members}
                )
                for compute, members in part.kinds
            }
            steps.append(Step(part.layout, numbers, seed, part.places))
        return steps, scalars

    def _limited(
        self,
        steps: Sequence[Step],
        leaves: Sequence[Array | None],
        gradients: Sequence[Array | None],
    ) -> Sequence[Array | None]:
        """Clip gradients adaptively, where that is wanted."""
        if not self._fixed().adaptive:
            return gradients
        numbers = {
            i: step.numbers(COMPUTE[backend_of(leaves[i]).dtype(leaves[i])], i)
            for step in steps
            for i in step.places
        }
        return limited(numbers, self._hyper["agc_units"], leaves, gradients)

    def _rounded(
        self, fixed: Fixed, exact: dict[str, Any], member: int, compute: str, xp: Namespace
    ) -> SimpleNamespace:
        """Give hyperparameters rounded to a type of arithmetic."""
        known = fixed.rounded.get((member, compute)) if xp is np else None
        if known is not None and (known[0] is exact or known[0] == exact):
            return known[1]
        declared = {**self.hyperparameters, **fixed.formulas[member].hyperparameters}
        rounded = {name: declared[name].rounded(v, compute, xp) for name, v in exact.items()}
        h = SimpleNamespace(**rounded)
        if xp is np:
            fixed.rounded[member, compute] = exact, h
        return h

    def _step_seed(self, iterations: Scalar, xp: Namespace) -> int | None:
        if not self._hyper["stochastic_rounding"] or self._hyper["state_dtype"] is None:
            return None
        if xp is not np:
            raise ValueError("stochastic rounding does not serve a compiled step")
        return step_seed(self.seed, iterations)


def _computed(
    formula: Formula,
    h: SimpleNamespace,
    it: Scalar,
    held: Mapping[str, Scalar],
    xp: Namespace,
) -> dict[str, Scalar]:
    """Give the coefficients of a formula and its next scalar state."""
    with np.errstate(all="ignore"):
        # A copy, so that a class may change it.
        found: Any = formula.coefficients(SimpleNamespace(**vars(h)), it, held, xp)
    if not isinstance(found, Mapping):
        raise TypeError(
            f"{type(formula).__name__}.coefficients: found {found!r}, wanted a dict of the rule's "
            "coefficients by name"
        )
    return {k: float(v) for k, v in found.items()} if xp is np else dict(found)


def _require_all(
    found: Mapping[str, Any], wanted: Iterable[str], formula: Formula, what: str
) -> None:
    """Name the first coefficient that is not there."""
    for name in wanted:
        if name not in found:
            raise ValueError(
                f"{type(formula).__name__}.coefficients: found {', '.join(found) or 'none'}, "
                f"wanted {name!r} too, for {what}"
            )


def _own(scalars: Mapping[str, Scalar], prefix: str) -> dict[str, Scalar]:
    """Give the scalar state of one formula, by its own names."""
    return {k.removeprefix(prefix): v for k, v in scalars.items() if k.startswith(prefix)}


def _number(iterations: Scalar, xp: Namespace) -> Scalar:
    """Give the count in the type of traced numbers, as TensorFlow does not mix types."""
    return iterations if xp is np else xp.asarray(iterations, dtype=xp.asarray(0.0).dtype)


def effective(values: dict[str, Any], own: dict[str, Any], iterations: Scalar) -> dict[str, Any]:
    """Give the hyperparameters of a group: lr decayed, weight decay by what lr multiplies."""
    values = values if own is values else values | own
    decay = values.get("decay")
    if decay is not None and not (isinstance(decay, float) and decay == 0.0):
        values = values | {"lr": values["lr"] / (1.0 + decay * iterations)}
    if values["peak_lr"] is None or values["weight_decay"] is None:
        return values
    return values | {"weight_decay": values["weight_decay"] / values["peak_lr"]}
