"""Engines that are ready for the next step, and what they were prepared for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from .._typing import Array, Tree
from ..arrays.pieces import Pieces
from ..arrays.trees import Structure
from ..engines import Engines, forced
from . import dropped
from .plan import Plan

Leaves = Sequence[Array | None]


@dataclass
class Prepared:
    """Engines, with what they were made ready for."""

    engines: Engines
    plan: Plan
    structure: Structure
    kinds: frozenset[type]
    first: dropped.Reference

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

    def leaves(self, tree: Tree) -> Leaves | None:
        """Return the leaves of a tree like that of the last step; None where it is another."""
        parts = self._parts
        if parts is None:
            return None
        try:
            leaves = parts(tree)
        except ValueError:
            return None
        found = leaves.wholes if type(leaves) is Pieces else leaves
        return leaves if self.kinds.issuperset(map(type, found)) else None
