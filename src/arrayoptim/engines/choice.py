"""The choice between engines, array by array."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import backend_of
from .._overlap import Stretches, bounds
from .._storage import Layout
from .._typing import Array
from .array import Slots, Step, sweep

if TYPE_CHECKING:
    from .cpu import Plan

MODES = ("auto", "array", "cpu")
"""Words for `engine` and the environment variable ``ARRAYOPTIM_ENGINE``."""

_FORCED: ContextVar[str | None] = ContextVar("arrayoptim_engine", default=None)


def mode() -> str:
    """Give the engine asked for: ``"auto"`` unless `engine` or the environment says otherwise.

    Raises
    ------
    ValueError
        If the environment variable holds another word.
    """
    forced = _FORCED.get()
    if forced is not None:
        return forced
    word = os.environ.get("ARRAYOPTIM_ENGINE", "auto")
    if word not in MODES:
        raise ValueError(f"ARRAYOPTIM_ENGINE: found {word!r}, wanted one of {', '.join(MODES)}")
    return word


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Choose the engine of the steps taken inside a ``with`` block.

    Parameters
    ----------
    name : {"auto", "array", "cpu"}
        ``"auto"`` takes the fastest for each array; ``"array"`` the one that is the specification;
        ``"cpu"`` the fused loops, and a ValueError where they cannot serve an array.

    Raises
    ------
    ValueError
        If there is no such engine.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> with ao.engine("array"):
    ...     ao.SGD(lr=0.5).apply(np.array([1.0]), np.array([2.0]))
    array([1.5])
    """
    if name not in MODES:
        raise ValueError(f"engine: found {name!r}, wanted one of {', '.join(MODES)}")
    token = _FORCED.set(name)
    try:
        yield
    finally:
        _FORCED.reset(token)


class Prepared:
    """Which engine serves each parameter of a tree, and what it has made ready for the next step.

    Parameters
    ----------
    key : tuple
        What else it depends on: the path of each parameter, the CPU engine's number of threads...
    leaves : sequence of array or None
        The parameters.
    slots : sequence of dict
        The slots of each.
    layouts : sequence of Layout or None
        The rule and slots of each.
    paths : sequence of str
        What messages call them.
    threads : int or None
        Threads of the CPU engine.

    Attributes
    ----------
    reasons : list of str or None
        For each parameter why the CPU engine does not serve it; None where it does.
    others : list of int
        Places of the parameters that the array engine serves.
    seconds : float or None
        How long the last sweep of the CPU engine took.
    """

    def __init__(
        self,
        key: Any,
        leaves: Sequence[Array | None],
        slots: Sequence[Slots],
        layouts: Sequence[Layout | None],
        paths: Sequence[str],
        threads: int | None,
    ) -> None:
        self._key = mode(), key
        rows = zip(layouts, leaves, slots, strict=True)
        self.reasons = [None if p is None else _refusal(layout, p, s) for layout, p, s in rows]
        present = [i for i, p in enumerate(leaves) if p is not None]
        self.others = [i for i in present if self.reasons[i] is not None]
        self.seconds: float | None = None
        if mode() == "cpu" and self.others:
            path, reason = paths[self.others[0]], self.reasons[self.others[0]]
            raise ValueError(f'engine "cpu" cannot serve parameter {path!r}: {reason}')
        served: dict[Layout, list[int]] = {}
        for i in present:
            layout = layouts[i]
            if self.reasons[i] is None and layout is not None:
                served.setdefault(layout, []).append(i)
        self._plans: dict[Layout, _Served] = {}
        if served:
            from .cpu import Plan

            occupied = Stretches()
            for layout, places in served.items():
                take = _taker(places, len(leaves))
                plan = Plan(
                    layout.rule,
                    take(leaves),
                    take(slots),
                    paths=take(paths),
                    places=places,
                    threads=threads,
                    occupied=occupied,
                )
                self._plans[layout] = _Served(plan, places, take)

    def fits(self, leaves: Sequence[Array | None], key: Any) -> bool:
        """Whether this still holds for these parameters, which may have moved."""
        if self._key != (mode(), key):
            return False
        return all(served.plan.fits(served.take(leaves)) for served in self._plans.values())

    def squares(self, grads: Sequence[Array | None]) -> dict[int, float]:
        """Give the sum of squares of each gradient that the CPU engine serves."""
        found: dict[int, float] = {}
        for served in self._plans.values():
            sums, _ = served.plan.sums_of_squares(served.take(grads))
            found |= zip(served.places, sums, strict=True)
        return found

    def served(self, steps: Sequence[Step], grads: Sequence[Array | None]) -> Callable[[], None]:
        """Make ready the step of the parameters that the CPU engine serves.

        Raises
        ------
        TypeError, ValueError
            If a gradient does not fit its parameter.
        """
        runs = []
        for step in steps:
            served = self._plans.get(step.layout)
            if served is not None:
                values = {compute: served.own(row) for compute, row in step.values.items()}
                runs.append(served.plan.prepare(served.take(grads), values, step.seed))

        def timed() -> None:
            start = perf_counter()
            for run in runs:
                run()
            self.seconds = perf_counter() - start if runs else None

        return timed

    def apart(
        self, leaves: Sequence[Array | None], grads: Sequence[Array | None]
    ) -> Sequence[Array | None]:
        """Copy those gradients of the other parameters whose memory the step writes.

        The CPU engine, which steps first, does so itself.
        """
        asked = [i for i in self.others if grads[i] is not None and backend_of(grads[i]).mutable]
        if not asked:
            return grads
        new, stretches = list(grads), Stretches()
        stretches.add(*bounds([p for p in leaves if p is not None and backend_of(p).writable(p)]))
        for k in stretches.touched(*bounds([grads[i] for i in asked])):
            new[asked[k]] = backend_of(grads[asked[k]]).copy(grads[asked[k]])
        return new

    def sweep_others(
        self,
        steps: Sequence[Step],
        leaves: Sequence[Array | None],
        grads: Sequence[Array | None],
        slots: Sequence[Slots],
    ) -> tuple[Sequence[Array | None], Sequence[Slots]]:
        """Step all other parameters."""
        if not self.others:
            return leaves, slots
        chosen: list[Array | None] = [None] * len(leaves)
        for i in self.others:
            chosen[i] = grads[i]
        for step in steps:
            leaves, slots = sweep(step, leaves, chosen, slots, in_place=True)
        return leaves, slots


@dataclass(frozen=True)
class _Served:
    """A plan with its part of the tree."""

    plan: Plan
    places: list[int]
    take: Callable[[Sequence[Any]], Sequence[Any]]

    def own(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        """Give the part of lists that have a number for each parameter of the tree."""
        return {
            name: np.asarray(self.take(value)) if isinstance(value, list) else value
            for name, value in numbers.items()
        }


def _taker(places: list[int], count: int) -> Callable[[Sequence[Any]], Sequence[Any]]:
    if len(places) == count:
        return lambda items: items
    return lambda items: [items[i] for i in places]


def _refusal(layout: Layout | None, p: Array, slots: Slots) -> str | None:
    assert layout is not None
    if mode() == "array":
        return "the array engine was asked for"
    backend = backend_of(p)
    if not backend.writable(p):
        return f"{backend.name} arrays of this kind cannot be written"
    # The compiler behind it takes longer to import than all the rest.
    from .cpu import refusal

    return refusal(layout.rule, p, slots)
