"""Arrays sharded over processes: what a step needs to know of the shards elsewhere."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._typing import Array, Scalar
from ..arrays.libraries import COMPLEX, COMPUTE
from ..engines import Step
from ..engines.totals import ratio
from ..numerics.slots import Layout
from ..rules.rule import Rule
from .checks import Leaf

__all__ = ["Spread", "Whole", "norms_of", "rated", "takes_wholes", "totals_of"]

Slots = dict[str, Array]
Whole = Callable[[int, Array, Array, Slots], tuple[Array, Slots]]
"""Steps a whole array: index, parameter, gradient, slots -> new parameter, new slots."""

_SHRINK = 2.0**-600
"""Squares of finite numbers scaled by this do not overflow."""


class Spread(ABC):
    """How the arrays of one session are sharded over several processes.

    Each process has a session over the same parameters in the same order, with one shard of each
    parameter, possibly empty. The methods are collective: all processes call them in the same
    order.

    Attributes
    ----------
    wholes : frozenset of int
        Indices of parameters that are gathered for a step, see `takes_wholes`.
    """

    wholes: frozenset[int] = frozenset()

    @abstractmethod
    def described(self, leaves: Sequence[Leaf | None]) -> tuple[Leaf | None, ...]:
        """Return the descriptions of parameters with full shapes, given those of shards."""

    @abstractmethod
    def summed(self, rows: Mapping[int, Sequence[float]]) -> dict[int, list[float]]:
        """Sum values over the processes that hold different shards.

        Parameters
        ----------
        rows : mapping of int to sequence of float
            Values of this process's shard, by the parameter's index.

        Returns
        -------
        dict of int to list of float
            The sums, the same on all processes.
        """

    def in_parts(self, leaves: Sequence[Array | None]) -> Sequence[Array | None]:
        """Return the parameters, with None for those that are gathered and stepped whole."""
        if not self.wholes:
            return leaves
        return [None if i in self.wholes else x for i, x in enumerate(leaves)]

    def step_wholes(
        self,
        params: Sequence[Array | None],
        grads: Sequence[Array | None],
        slots: Sequence[Slots],
        step: Whole,
    ) -> None:
        """Gather the parameters that are stepped whole, step them, and write the shards back.

        Parameters
        ----------
        params, grads, slots : sequence
            The local shards.
        step : callable
            Steps one whole parameter.
        """
        raise NotImplementedError


def takes_wholes(layout: Layout, settings: Mapping[str, Any]) -> bool:
    """Return whether a step needs the whole parameter, as sums over its entries do not suffice.

    Parameters
    ----------
    layout : Layout
        The parameter's rule and constraint.
    settings : mapping of str to object
        The hyperparameters of the optimizer.
    """
    constrained = layout.constraint is not None
    return layout.rule.kind == "matrix" or constrained or settings["agc"] is not None


def norms_of(spread: Spread, parts: Mapping[int, float]) -> dict[int, float]:
    """Return the norms of whole arrays, given those of the local shards."""
    rows = {i: _squares(x) for i, x in parts.items()}
    return {i: _root(row) for i, row in spread.summed(rows).items()}


def totals_of(
    spread: Spread, rule: Rule, parts: Mapping[int, Sequence[Scalar]]
) -> dict[int, list[Scalar]]:
    """Return the totals of whole arrays, given those of the local shards.

    Parameters
    ----------
    spread : Spread
        How the arrays are sharded over processes.
    rule : Rule
        The rule that defines the totals: first norms, then sums.
    parts : mapping of int to sequence of scalar
        The totals of each local shard, by the parameter's index.
    """
    count = len(rule.norms)
    rows = {
        i: [*(y for x in row[:count] for y in _squares(float(x))), *map(float, row[count:])]
        for i, row in parts.items()
    }
    return {
        i: [*(_root(row[k : k + 2]) for k in range(0, 2 * count, 2)), *row[2 * count :]]
        for i, row in spread.summed(rows).items()
    }


def _squares(x: float) -> list[float]:
    return [x * x, (x * _SHRINK) * (x * _SHRINK)]


def _root(squares: Sequence[float]) -> float:
    plain, shrunk = squares
    return math.sqrt(plain) if plain < math.inf else math.sqrt(shrunk) / _SHRINK


def rated(step: Step, leaves: Sequence[Leaf | None], found: Mapping[int, Sequence[Scalar]]) -> Step:
    """Return a step with per-tensor coefficients added, computed from totals.

    Parameters
    ----------
    step : Step
        A step of a rule with a trust ratio.
    leaves : sequence of Leaf or None
        The parameters, whose number of entries the ratio may depend on.
    found : mapping of int to sequence of scalar
        The totals of whole parameters, by index.
    """
    rule, values = step.layout.rule, dict(step.values)
    for compute in values:
        own: dict[str, list[Scalar]] = {name: [0.0] * len(leaves) for name in rule.measured}
        for i, totals in found.items():
            leaf = leaves[i]
            if leaf is None or COMPUTE[leaf.dtype] != compute:
                continue
            size = math.prod(leaf.shape) * (2.0 if leaf.dtype in COMPLEX else 1.0)
            made = ratio(rule, size, totals, step.numbers(compute, i), np)
            for name, value in made.items():
                own[name][i] = float(value)
        values[compute] = {**values[compute], **own}
    return Step(step.layout, values, step.seed, step.places)
