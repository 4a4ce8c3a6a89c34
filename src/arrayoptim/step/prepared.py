"""Engines that are ready for the next step, and what they were prepared for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from .._typing import Array, Tree
from ..arrays.per_model import Pieces
from ..arrays.trees import Structure
from ..engines import Engines, forced
from . import unused_results
from .plan import Plan

Leaves = Sequence[Array | None]


@dataclass
class Prepared:
    """Engines, with what they were made ready for."""

    engines: Engines
    plan: Plan
    structure: Structure
    kinds: frozenset[type]
    first: unused_results.Reference

    def holds(self, plan: Plan, structure: Structure) -> bool:
        """Whether the engines still serve a plan and a structure of parameters."""
        if plan is not self.plan:
            if plan.assignment is not self.plan.assignment or plan.threads != self.plan.threads:
                return False
            self.plan = plan
        known = self.structure
        same = structure is known or structure.paths == known.paths
        return same and forced() == self.engines.forced

    @cached_property
    def _parts(self) -> Callable[[Tree], Leaves] | None:
        """What takes such a tree apart; None where that does not spare the long way."""
        parts, ordered = self.structure.parts, self.structure.ordered
        if parts is None or self.engines.others:
            return None
        return (lambda tree: ordered(parts(tree))) if self.structure.order else parts

    def apart(self, params: Tree, grads: Tree) -> tuple[Leaves, Leaves] | None:
        """Return the leaves of trees like those of the last step, whatever they are.

        It is None where a tree has another shape.
        """
        parts = self._parts
        try:
            return None if parts is None else (parts(params), parts(grads))
        except ValueError:
            return None

    def look(self, leaves: Leaves, gradients: Leaves) -> bool:
        """Whether engines find all arrays where and what they were, or gradients that serve too."""
        known = self._knows(leaves) and self._knows(gradients)
        return known and self.engines.look(leaves, gradients)

    def _knows(self, leaves: Leaves) -> bool:
        found = leaves.wholes if type(leaves) is Pieces else leaves
        return self.kinds.issuperset(map(type, found))
