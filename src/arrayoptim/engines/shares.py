"""The plans of fused engines for their parts of a tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._typing import Array
from .steps import OWN, Act, Once, Step

_OWN = frozenset(OWN)


class Share:
    """The plan of an engine, with its part of the tree."""

    resumes = False
    """Whether an interrupted step can be resumed."""

    def __init__(
        self,
        plan: Any,
        places: list[int],
        take: Callable[[Sequence[Any]], Sequence[Any]],
        whole: bool,
    ) -> None:
        self.plan, self.places, self.take, self.whole = plan, places, take, whole
        self.grads: Sequence[Array | None] = ()
        self._of: Sequence[Array | None] = ()

    def look(self, leaves: Sequence[Array | None], grads: Sequence[Array | None]) -> bool:
        """Check the arrays of a step; return whether the plan is for these parameters."""
        self._of, self.grads = grads, self.take(grads) if grads else ()
        return bool(self.plan.fits(self.take(leaves)))

    def quick(self, leaves: Sequence[Any], grads: Sequence[Any]) -> bool:
        """Whether machine code finds all arrays of a step as it expects, types included."""
        return False

    def squares(self) -> list[float]:
        """Return the sum of squares of each gradient that was checked."""
        sums, _ = self.plan.sums_of_squares(self.grads)
        found: list[float] = sums
        return found

    def totals(self, step: Step, leaves: Any, grads: Sequence[Array | None]) -> list[list[float]]:
        """Return the totals of each parameter that a step of the rule needs."""
        found: list[list[float]] = self.plan.totals(self.take(grads), self.numbers(step))
        return found

    def ready(self, step: Step, leaves: Any, grads: Sequence[Array | None]) -> Act:
        """Return the step as an act; anything that can fail fails here."""
        run = self.plan.prepare(self.take(grads), self.numbers(step), step.seed)
        self._of = self.grads = ()
        return run if self.resumes else Once(run)

    def numbers(self, step: Step) -> Mapping[str, Mapping[str, Any]]:
        """Return the per-step scalars for this part."""
        return {kind: self._of_this_share(row) for kind, row in step.values.items()}

    def _of_this_share(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        if _OWN.isdisjoint(map(type, row.values())):
            return row
        return {
            name: np.asarray(self.take(value)) if isinstance(value, OWN) else value
            for name, value in row.items()
        }


class Launching(Share):
    """The share of the GPU engine."""

    resumes = True

    def quick(self, leaves: Sequence[Any], grads: Sequence[Any]) -> bool:
        """Whether machine code finds all arrays of a step as it expects, types included."""
        self._of, self.grads = grads, self.take(grads)
        return bool(self.plan.quick(self.take(leaves), self.grads))

    def ready(self, step: Step, leaves: Any, grads: Sequence[Array | None]) -> Act:
        """Return the step as an act; anything that can fail fails here."""
        mine = self.grads if grads is self._of else self.take(grads)
        act: Act = self.plan.prepare(mine, self.numbers(step), step.seed, step.computed)
        self._of = self.grads = ()
        return act


class Looking(Share):
    """The share of the CPU engine, which checks all arrays of a step in one call."""

    def quick(self, leaves: Sequence[Any], grads: Sequence[Any]) -> bool:
        """Whether machine code finds all arrays of a step as it expects, types included."""
        self._of = grads
        if self.whole:
            return bool(self.plan.quick(leaves, grads))
        return bool(self.plan.quick(self.take(leaves), self.take(grads)))

    def look(self, leaves: Sequence[Array | None], grads: Sequence[Array | None]) -> bool:
        """Check the arrays of a step; return whether the plan is for these parameters."""
        self._of = grads
        if not grads:
            return bool(self.plan.fits(self.take(leaves)))
        if self.whole:
            return bool(self.plan.look(leaves, grads))
        return bool(self.plan.look(self.take(leaves), self.take(grads)))

    def squares(self) -> list[float]:
        """Return the sum of squares of each gradient that was checked."""
        found: list[float] = self.plan.squares()
        return found

    def totals(self, step: Step, leaves: Any, grads: Sequence[Array | None]) -> list[list[float]]:
        """Return the totals of each parameter that a step of the rule needs."""
        if grads is not self._of:
            self.look(leaves, grads)
        found: list[list[float]] = self.plan.measure(self.numbers(step))
        return found

    def ready(self, step: Step, leaves: Any, grads: Sequence[Array | None]) -> Act:
        """Return the step as an act; anything that can fail fails here."""
        if grads is not self._of:
            self.look(leaves, grads)
        self.plan.load(step.values if self.whole else self.numbers(step), step.seed)
        self._of = ()
        act: Act = self.plan.run
        return act
