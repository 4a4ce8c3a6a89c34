"""The choice between engines, array by array."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np

from .._typing import Array, Scalar
from ..arrays.libraries import backend_of
from ..arrays.memory import Stretches, bounds
from ..arrays.trees import named
from ..gradients import Pending
from ..numerics.slots import Layout
from .array.engine import Slots, Step, measure, sweep

FUSED = ("cpu", "gpu")
"""The engines that do a whole step in one loop."""

_SERVING = (*FUSED, "offload")

MODES = ("auto", "array", *FUSED)
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
    name : {"auto", "array", "cpu", "gpu"}
        ``"auto"`` takes the fastest for each array; ``"array"`` the one that is the specification;
        ``"cpu"`` the fused loops and ``"gpu"`` the fused kernels, each with a ValueError where it
        cannot serve an array.

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
    graph : bool
        Whether steps are for a CUDA graph, which the GPU engine alone can fill.

    Attributes
    ----------
    engines : list of str or None
        For each parameter the fused engine that serves it; None where none does.
    reasons : list of str or None
        For each parameter why none does; None where one does.
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
        graph: bool = False,
    ) -> None:
        self._key = mode(), key
        rows = zip(layouts, leaves, slots, strict=True)
        found = [(None, None) if p is None else _server(layout, p, s) for layout, p, s in rows]
        self.engines, self.reasons = [list(column) for column in zip(*found)] or [[], []]
        present = [i for i, p in enumerate(leaves) if p is not None]
        self.others = [i for i in present if self.engines[i] is None]
        self.seconds: float | None = None
        for i in self.others:
            apart = _apart(leaves[i], slots[i])
            if apart or mode() in FUSED:
                what = "offload=True" if apart else f'engine "{mode()}"'
                raise ValueError(f"{what} cannot serve {named(paths[i])}: {self.reasons[i]}")
        if graph:
            _refuse_outside(present, leaves, paths, self.reasons)
        served: dict[tuple[str, Layout], list[int]] = {}
        for i in present:
            name, layout = self.engines[i], layouts[i]
            if name is not None and layout is not None:
                served.setdefault((name, layout), []).append(i)
        self._plans: dict[tuple[str, Layout], _Served] = {}
        occupied = Stretches()
        for (name, layout), places in served.items():
            take = _taker(places, len(leaves))
            arrays = layout.rule, take(leaves), take(slots)
            known: dict[str, Any] = {"paths": take(paths), "occupied": occupied}
            known |= {"graph": graph} if name == "gpu" else {"places": places, "threads": threads}
            plan = _module(name).Plan(*arrays, **known)
            self._plans[name, layout] = _Served(plan, places, take)

    def fits(self, leaves: Sequence[Array | None], key: Any) -> bool:
        """Whether this still holds for these parameters, which may have moved."""
        if self._key != (mode(), key):
            return False
        return all(served.plan.fits(served.take(leaves)) for served in self._plans.values())

    def squares(self, grads: Sequence[Array | None]) -> dict[int, float]:
        """Give the sum of squares of each gradient that a fused engine serves."""
        found: dict[int, float] = {}
        for served in self._plans.values():
            sums, _ = served.plan.sums_of_squares(served.take(grads))
            found |= zip(served.places, sums, strict=True)
        return found

    def norm(self, grads: Sequence[Array | None]) -> Pending | None:
        """Leave the norm of all gradients on the one device where they are; None otherwise."""
        if len(self._plans) != 1 or any(grads[i] is not None for i in self.others):
            return None
        (((name, _), served),) = self._plans.items()
        table = served.plan.norm(served.take(grads)) if name == "gpu" else None
        return None if table is None else Pending(table, read=partial(served.plan.read, table))

    def totals(
        self,
        step: Step,
        leaves: Sequence[Array | None],
        grads: Sequence[Array | None],
        slots: Sequence[Slots],
    ) -> dict[int, list[Scalar]]:
        """Give what a step has to know of every parameter that has a gradient, by its place."""
        rest = set(self.others)
        rows = measure(step, leaves, [g if i in rest else None for i, g in enumerate(grads)], slots)
        served = self._plans.get(("cpu", step.layout))
        if served is not None:
            values = {compute: served.own(row) for compute, row in step.values.items()}
            found = served.plan.totals(served.take(grads), values)
            rows |= zip(served.places, found, strict=True)
        return {i: [float(x) for x in rows[i]] for i in sorted(rows) if grads[i] is not None}

    def served(self, steps: Sequence[Step], grads: Sequence[Array | None]) -> Callable[[], None]:
        """Make ready the step of the parameters that fused engines serve.

        Raises
        ------
        TypeError, ValueError
            If a gradient does not fit its parameter.
        """
        runs: dict[str, list[Callable[[], None]]] = {name: [] for name in _SERVING}
        for step in steps:
            for name in _SERVING:
                served = self._plans.get((name, step.layout))
                if served is not None:
                    values = {compute: served.own(row) for compute, row in step.values.items()}
                    run = served.plan.prepare(served.take(grads), values, step.seed)
                    runs[name].append(run)

        def timed() -> None:
            # A GPU is still at work when its launches return.
            for run in (*runs["gpu"], *runs["offload"]):
                run()
            start = perf_counter()
            for run in runs["cpu"]:
                run()
            self.seconds = perf_counter() - start if runs["cpu"] else None

        return timed

    def renew(self, steps: Sequence[Step]) -> None:
        """Put the numbers of another step where the kernels of a CUDA graph read them.

        Raises
        ------
        ValueError
            If they are other numbers than those of the step that was captured.
        """
        for step in steps:
            served = self._plans["gpu", step.layout]
            served.plan.renew({compute: served.own(row) for compute, row in step.values.items()})

    def apart(
        self, leaves: Sequence[Array | None], grads: Sequence[Array | None]
    ) -> Sequence[Array | None]:
        """Copy those gradients of the other parameters whose memory the step writes.

        The fused engines, which step first, do so themselves.
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

    plan: Any
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


def _server(layout: Layout | None, p: Array, slots: Slots) -> tuple[str | None, str | None]:
    """Give the fused engine that serves a parameter, or why none does."""
    assert layout is not None
    if mode() == "array":
        return None, "the array engine was asked for"
    backend = backend_of(p)
    if not backend.writable(p):
        return None, f"{backend.name} arrays of this kind cannot be written"
    if layout.constraint is not None:
        return None, f"{layout.constraint!r} goes by norms of the new parameter"
    from .gpu.arrays import library_of

    fused = mode() if mode() in FUSED else "cpu" if library_of(p) is None else "gpu"
    name = "offload" if _apart(p, slots) and mode() != "gpu" else fused
    reason = _module(name).refusal(layout.rule, p, slots)
    return (name, None) if reason is None else (None, reason)


def _apart(p: Array, slots: Slots) -> bool:
    """Whether the state of a parameter on a GPU lies in host memory."""
    from .gpu.arrays import library_of

    return library_of(p) is not None and any(library_of(s) is None for s in slots.values())


def captures(leaves: Sequence[Array | None]) -> bool:
    """Whether a CUDA graph is being captured on the current stream of a parameter's device."""
    from .gpu.arrays import library_of

    found = ((library_of(p), p) for p in leaves if p is not None)
    devices = {(library, library.number(p)) for library, p in found if library is not None}
    return any(library.captures(number) for library, number in devices)


def refuse_capturing(leaves: Sequence[Array | None]) -> None:
    """Raise a RuntimeError while a CUDA graph is being captured."""
    from .gpu.arrays import CAPTURING

    if captures(leaves):
        raise RuntimeError(CAPTURING)


def _refuse_outside(
    present: Sequence[int],
    leaves: Sequence[Array | None],
    paths: Sequence[str],
    reasons: Sequence[str | None],
) -> None:
    """Refuse parameters whose step is not in the kernels of one device."""
    from .gpu.arrays import library_of

    devices = set()
    for i in present:
        library, reason = library_of(leaves[i]), reasons[i]
        if library is None:
            reason = "it is on no GPU"
        elif reason is None:
            devices.add((library, library.number(leaves[i])))
            reason = "it is on another device than those before" if len(devices) > 1 else None
        if reason is not None:
            raise ValueError(f"a CUDA graph cannot hold a step of {named(paths[i])}: {reason}")


def _module(name: str) -> Any:
    # The compiler behind the CPU engine takes longer to import than all the rest.
    return import_module(f".{name}.engine", __package__)
