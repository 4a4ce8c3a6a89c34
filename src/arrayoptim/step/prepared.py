"""Engines that are ready for the next step, and what they were prepared for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._typing import Array, Tree
from ..arrays.pieces import Pieces
from ..arrays.trees import Structure
from ..engines import Engines, forced
from . import dropped
from .assignment import Assignment
from .plan import Plan

Leaves = Sequence[Array | None]


@dataclass(frozen=True)
class Prepared:
    """Engines, with what they were made ready for."""

    engines: Engines
    assignment: Assignment
    structure: Structure
    threads: int | None
    kinds: frozenset[type]
    first: dropped.Reference

    def holds(self, plan: Plan, structure: Structure) -> bool:
        """Whether the engines still serve a plan and a structure of parameters."""
        known = self.structure
        return (
            plan.assignment is self.assignment
            and (structure is known or structure.paths == known.paths)
            and plan.settings.whole["threads"] == self.threads
            and forced() == self.engines.forced
        )

    def leaves(self, tree: Tree) -> Leaves | None:
        """Return the leaves of a tree like that of the last step; None where it is another."""
        parts = self.structure.parts
        if parts is None or self.engines.others:
            return None
        try:
            leaves = parts(tree)
        except ValueError:
            return None
        found = leaves.wholes if type(leaves) is Pieces else leaves
        if not self.kinds.issuperset(map(type, found)):
            return None
        return self.structure.ordered(leaves) if self.structure.order else leaves
