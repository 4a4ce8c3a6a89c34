"""Parameters with sparse gradients: the steps of their rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from .._typing import Array
from ..arrays.identity import same_objects
from ..arrays.memory import Stretches
from ..arrays.rows import Rows
from ..gradients import square_sum
from ..numerics.slots import Layout
from .steps import Act, Step

__all__ = ["Rowwise"]


class Rowwise:
    """The prepared steps for rows of parameters of a tree.

    Parameters
    ----------
    places : set of int
        Indices of the parameters with sparse gradients.
    served : list of str or None
        For each parameter the fused engine that serves it, or None.
    threads : int or None
        Threads of the CPU engine.

    Attributes
    ----------
    places : set of int
        As passed.
    given : dict of int to Rows
        The sparse gradients of the next step.
    """

    def __init__(
        self, places: frozenset[int], served: Sequence[str | None], threads: int | None
    ) -> None:
        self.places, self._served, self._threads = places, served, threads
        self.given: dict[int, Rows] = {}
        self._dense: Sequence[Array | None] = ()
        self._plans: dict[int, Any] = {}

    def make(
        self,
        leaves: Sequence[Array | None],
        slots: Sequence[Mapping[str, Array]],
        layouts: Sequence[Layout | None],
        occupied: Stretches,
    ) -> dict[int, str]:
        """Prepare steps of rows; return why no fused engine steps the other parameters.

        Parameters
        ----------
        leaves, slots, layouts : sequence
            Those of the tree.
        occupied : Stretches
            The memory written by the whole step, to which this adds its own.
        """
        reasons = {}
        for i in sorted(self.places):
            name, layout = self._served[i], layouts[i]
            if name is None or layout is None:
                continue
            reasons[i] = f"the engine {name!r} has no steps of rows"
            with suppress(ModuleNotFoundError):
                made = import_module(f".{name}.rows", __package__).RowPlan
                try:
                    given = layout.rule, leaves[i], slots[i], occupied
                    self._plans[i] = made(*given, self._threads)
                    del reasons[i]
                except ValueError as error:
                    reasons[i] = str(error)
        return reasons

    def fits(self, leaves: Sequence[Array | None], grads: Sequence[Any]) -> bool:
        """Whether the same parameters, at the same addresses, have sparse gradients."""
        if any(grads[i] is not None and type(grads[i]) is not Rows for i in self.places):
            return False
        return all(plan.fits(leaves[i]) for i, plan in self._plans.items())

    def parted(self, grads: Sequence[Any]) -> Sequence[Array | None]:
        """Record the sparse gradients, and return the others."""
        self.given = {i: g for i, g in enumerate(grads) if type(g) is Rows}
        dense = [None if type(g) is Rows else g for g in grads]
        if not same_objects(dense, self._dense):
            self._dense = dense
        return self._dense

    def squares(self) -> dict[int, float]:
        """Return the sum of squares of each sparse gradient."""
        return {i: square_sum(g.rows) for i, g in self.given.items()}

    def ready(self, steps: Iterable[Step]) -> list[tuple[str | None, Act]]:
        """Prepare the steps of the rows that fused engines serve, each with its engine."""
        acts: list[tuple[str | None, Act]] = []
        for step in steps:
            for i in sorted(self.given.keys() & self._plans.keys() & set(step.places)):
                plan = self._plans[i]
                act = plan.prepare(self.given[i], step.numbers(plan.compute, i))
                acts.append((self._served[i], act))
        return acts
