"""The choice between engines, array by array."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import backend_of
from .._overlap import Occupied, bounds
from .._rule import Rule
from .._storage import Layout
from .._typing import Array
from .array import Slots, Step, sweep

if TYPE_CHECKING:
    from .cpu import Plan

MODES = ("auto", "array", "cpu")
"""Words for `engine` and the environment variable ``ARRAYOPTIM_ENGINE``."""

Key = tuple[Layout, tuple[str, ...], int | None]

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
    key : (Layout, tuple of str, int or None)
        The rule and its slots, the path of each parameter, and the CPU engine's number of threads.
    leaves : sequence of array or None
        The parameters.
    slots : sequence of dict
        The slots of each.

    Attributes
    ----------
    reasons : list of str or None
        For each parameter why the CPU engine does not serve it; None where it does.
    others : list of int
        Places of the parameters that the array engine serves.
    seconds : float or None
        How long the last sweep of the CPU engine took.
    """

    def __init__(self, key: Key, leaves: Sequence[Array | None], slots: Sequence[Slots]) -> None:
        layout, paths, threads = key
        rule = layout.rule
        self._key = mode(), key
        self.reasons = [_refusal(rule, p, s) for p, s in zip(leaves, slots, strict=True)]
        present = [i for i, p in enumerate(leaves) if p is not None]
        self._served = [i for i in present if self.reasons[i] is None]
        self.others = [i for i in present if self.reasons[i] is not None]
        self._whole = len(self._served) == len(leaves)
        self.seconds: float | None = None
        self.plan: Plan | None = None
        if mode() == "cpu" and self.others:
            path, reason = paths[self.others[0]], self.reasons[self.others[0]]
            raise ValueError(f'engine "cpu" cannot serve parameter {path!r}: {reason}')
        if self._served:
            from .cpu import Plan

            named = [paths[i] for i in self._served]
            chosen = self._take(leaves), self._take(slots)
            self.plan = Plan(rule, *chosen, paths=named, places=self._served, threads=threads)

    def _take(self, sequence: Sequence[Any]) -> Sequence[Any]:
        return sequence if self._whole else [sequence[i] for i in self._served]

    def fits(self, leaves: Sequence[Array | None], key: Key) -> bool:
        """Whether this still holds for these parameters, which may have moved."""
        if self._key != (mode(), key):
            return False
        return self.plan is None or self.plan.fits(self._take(leaves))

    def squares(self, grads: Sequence[Array | None]) -> dict[int, float]:
        """Give the sum of squares of each gradient that the CPU engine serves."""
        if self.plan is None:
            return {}
        sums, _ = self.plan.sums_of_squares(self._take(grads))
        return dict(zip(self._served, sums, strict=True))

    def served(self, step: Step, grads: Sequence[Array | None]) -> Callable[[], None]:
        """Make ready the step of the parameters that the CPU engine serves.

        Raises
        ------
        TypeError, ValueError
            If a gradient does not fit its parameter.
        """
        if self.plan is None:
            return lambda: None
        values = {
            compute: {
                name: np.asarray(self._take(value)) if isinstance(value, list) else value
                for name, value in numbers.items()
            }
            for compute, numbers in step.values.items()
        }
        run = self.plan.prepare(self._take(grads), values, step.seed)

        def timed() -> None:
            start = perf_counter()
            run()
            self.seconds = perf_counter() - start

        return timed

    def apart(
        self, leaves: Sequence[Array | None], grads: Sequence[Array | None]
    ) -> Sequence[Array | None]:
        """Copy those gradients of the other parameters whose memory the step writes.

        The CPU engine, which steps first, does so itself.
        """
        written = [p for p in leaves if p is not None and backend_of(p).writable(p)]
        asked = [i for i in self.others if grads[i] is not None and backend_of(grads[i]).mutable]
        if not written or not asked:
            return grads
        new = list(grads)
        for k in Occupied(*bounds(written)).touched(*bounds([grads[i] for i in asked])):
            new[asked[k]] = backend_of(grads[asked[k]]).copy(grads[asked[k]])
        return new

    def sweep_others(
        self,
        step: Step,
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
        return sweep(step, leaves, chosen, slots, in_place=True)


def _refusal(rule: Rule, p: Array | None, slots: Slots) -> str | None:
    if p is None:
        return None
    if mode() == "array":
        return "the array engine was asked for"
    backend = backend_of(p)
    if not backend.writable(p):
        return f"{backend.name} arrays of this kind cannot be written"
    # The compiler behind it takes longer to import than all the rest.
    from .cpu import refusal

    return refusal(rule, p, slots)
