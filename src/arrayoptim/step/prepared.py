"""Engines prepared for the next step, and what they were prepared for."""

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
    """Engines, with the plan, structure and arrays they were prepared for."""

    engines: Engines
    plan: Plan
    structure: Structure
    kinds: frozenset[type]
    first: unused_results.Reference

    def holds(self, plan: Plan, structure: Structure) -> bool:
        """Whether the engines are still valid for a plan and a structure of parameters."""
        if plan is not self.plan:
            if plan.assignment is not self.plan.assignment or plan.threads != self.plan.threads:
                return False
            self.plan = plan
        known = self.structure
        same = structure is known or structure.paths == known.paths
        return same and forced() == self.engines.forced

    @cached_property
    def _parts(self) -> Callable[[Tree], Leaves] | None:
        """A fast function that flattens such trees; None if there is none for their structure."""
        parts, ordered = self.structure.parts, self.structure.ordered
        if parts is None or self.engines.others:
            return None
        return (lambda tree: ordered(parts(tree))) if self.structure.order else parts

    def apart(self, params: Tree, grads: Tree) -> tuple[Leaves, Leaves] | None:
        """Return the leaves of trees structured like those of the last step, unchecked.

        Return None if a tree has another structure.
        """
        parts = self._parts
        try:
            return None if parts is None else (parts(params), parts(grads))
        except ValueError:
            return None

    def look(self, leaves: Leaves, gradients: Leaves) -> bool:
        """Whether the engines accept these arrays: the same parameters, with gradients that fit."""
        known = self._knows(leaves) and self._knows(gradients)
        return known and self.engines.look(leaves, gradients)

    def _knows(self, leaves: Leaves) -> bool:
        found = leaves.wholes if type(leaves) is Pieces else leaves
        return self.kinds.issuperset(map(type, found))
