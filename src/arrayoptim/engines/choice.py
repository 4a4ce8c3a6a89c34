"""The choice between engines, array by array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from time import perf_counter
from typing import Any, Literal

from .._locks import IMPORTING
from .._typing import Array, Scalar
from ..arrays.libraries import backend_of
from ..arrays.memory import Stretches, bounds
from ..arrays.rows import Rows, stored
from ..arrays.trees import named
from ..gradients import Pending
from ..numerics.slots import Layout
from ..rules.rule import Rule
from .array.engine import InPlace, measure
from .array.single import Slots
from .constrained import stepped_rule
from .host import gpu_library
from .mode import FUSED, forced, mode
from .passes import sweeps
from .rowwise import Rowwise
from .shares import Launching, Looking, Share
from .steps import Act, Step

Key = tuple[str, Layout, Rule]
"""The engine that serves parameters, their layout, and the rule that it steps them by."""

_SERVING = ("gpu", "offload", "cpu")
"""Engines in the order in which they step: GPU launches return early, so they come first."""


class Engines:
    """The engine of each parameter of a tree, and what it has prepared for the next step.

    Parameters
    ----------
    leaves : sequence of array or None
        The parameters.
    slots : sequence of dict
        The slots of each.
    layouts : sequence of Layout or None
        The rule and slots of each.
    paths : sequence of str
        The parameters' names in messages.
    threads : int or None
        Threads of the CPU engine.
    graph : {"", "sent", "alone"}
        Whether steps are for a CUDA graph, which only the GPU engine supports: one whose scalars
        are sent before each replay, or one that is self-contained, see `Step.computed`.
    rowwise : frozenset of int
        Indices of the parameters with sparse gradients.
    rated : bool
        Whether steps come with coefficients per parameter already derived from totals, as those
        of array shards do.

    Attributes
    ----------
    forced : str or None
        The engine requested by `engine`.
    served : list of str or None
        For each parameter the fused engine that serves it, or None.
    reasons : list of str or None
        For each parameter why no fused engine serves it, or None.
    others : list of int
        Indices of the parameters that the array engine serves.
    rows : Rowwise
        The steps of rows with sparse gradients.
    seconds : float or None
        Duration of the last sweep of the CPU engine.
    """

    def __init__(
        self,
        leaves: Sequence[Array | None],
        slots: Sequence[Slots],
        layouts: Sequence[Layout | None],
        paths: Sequence[str],
        threads: int | None,
        graph: Literal["", "sent", "alone"] = "",
        rowwise: frozenset[int] = frozenset(),
        rated: bool = False,
    ) -> None:
        asked, self.forced = mode(), forced()
        rows = zip(layouts, leaves, slots, strict=True)
        found = [_server(*row, rated) for row in rows]
        self.served, self.reasons = [list(column) for column in zip(*found)] or [[], []]
        present = [i for i, p in enumerate(leaves) if p is not None]
        occupied = Stretches()
        self.rows = Rowwise(rowwise, self.served, threads)
        for i, reason in self.rows.make(leaves, slots, layouts, occupied).items():
            self.served[i], self.reasons[i] = None, reason
        self.others = [i for i in present if self.served[i] is None]
        self.seconds: float | None = None
        for i in self.others:
            apart = _apart(leaves[i], slots[i])
            if apart or asked in FUSED:
                what = "offload=True" if apart else f'engine "{asked}"'
                raise ValueError(f"{what} cannot serve {named(paths[i])}: {self.reasons[i]}")
        if graph:
            _refuse_outside(present, leaves, paths, self.reasons)
        shares: dict[Key, list[int]] = {}
        for i in present:
            name, layout, p = self.served[i], layouts[i], leaves[i]
            if name is not None and layout is not None and i not in rowwise:
                rule = stepped_rule(layout, p)
                assert rule is not None
                shares.setdefault((name, layout, rule), []).append(i)
        self._shares: dict[Key, Share] = {}
        for (name, layout, rule), places in sorted(shares.items(), key=_turn):
            take = _taker(places, len(leaves))
            arrays = rule, take(leaves), take(slots)
            known: dict[str, Any] = {"paths": take(paths), "occupied": occupied, "places": places}
            known |= {"graph": graph} if name == "gpu" else {"threads": threads}
            plan = _engine(name).Plan(*arrays, **known)
            made = {"cpu": Looking, "gpu": Launching}.get(name, Share)
            self._shares[name, layout, rule] = made(plan, places, take, len(places) == len(leaves))
        self._all = bool(leaves) and len(present) == len(leaves)
        launched = [share for (name, *_), share in self._shares.items() if name == "gpu"]
        self._clipped = frozenset(i for share in launched for i in share.places)
        self._alone = launched[0] if len(launched) == len(self._shares) == 1 else None
        # The parameters of which several plans take one norm together, unless on several GPUs.
        several = len(launched) == len(self._shares) > 1
        self._measured = sorted(self._clipped) if several else []
        self._leaves, self._graph = leaves, graph
        self._sizes: Any = None

    def look(
        self,
        leaves: Sequence[Array | None],
        grads: Sequence[Array | None] = (),
        sparse: bool = False,
    ) -> bool:
        """Check the parameters, which may have moved, and record their gradients.

        Parameters
        ----------
        leaves : sequence of array or None
            The parameters.
        grads : sequence of array or None
            The gradients of the next step; empty if not yet known.
        sparse : bool
            Whether some of them may be `Rows`.

        Returns
        -------
        bool
            Whether the choice is still valid for the parameters.
        """
        self.rows.given = {}
        if grads and self.rows.places and not self.rows.fits(leaves, grads):
            return False
        if sparse:
            grads = self.rows.parted(grads)
            if not self.rows.given.keys() <= self.rows.places:
                return False
        fits = True
        for share in self._shares.values():
            fits = share.look(leaves, grads) and fits
        return fits

    def quick(self, leaves: Sequence[Any], grads: Sequence[Any]) -> bool:
        """Check the arrays of a step in machine code alone.

        Parameters
        ----------
        leaves, grads : sequence of object
            Parameters and gradients, or any objects in their places.

        Returns
        -------
        bool
            False if something changed since the last step, or cannot be checked this way.
        """
        if not self._all or self.rows.places:
            return False
        self.rows.given = {}
        quick = True
        for share in self._shares.values():
            quick = quick and share.quick(leaves, grads)
        return quick

    def squares(self) -> dict[int, float]:
        """Return the sum of squares of each gradient that a fused engine serves."""
        found: dict[int, float] = {}
        for share in self._shares.values():
            found.update(zip(share.places, share.squares(), strict=True))
        return found | self.rows.squares() if self.rows.given else found

    def norm(self, grads: Sequence[Array | None], each: bool = False) -> Pending | None:
        """Return the norms of the gradients if they stay on a single device; otherwise None.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients.
        each : bool
            Whether the norm of each gradient is needed, not just that of all.
        """
        if not self._by_plans(grads):
            return None
        share = self._alone
        if share is None:
            return self._norm_of_several(grads) if self._measured and not each else None
        table = share.plan.norm(share.grads)
        if table is None:
            return None
        given = [g is not None for g in grads]

        def read_each() -> list[float | None]:
            found: list[float | None] = [None] * len(given)
            for i, norm in zip(share.places, share.plan.read_each(table), strict=True):
                found[i] = norm if given[i] else None
            return found

        return Pending(
            table, read=partial(share.plan.read, table), norms=table, read_each=read_each
        )

    def _norm_of_several(self, grads: Sequence[Array | None]) -> Pending | None:
        """Return the norm of gradients that several plans step on one GPU; otherwise None."""
        if self._sizes is None:
            refuse_capturing(self._leaves)
            try:
                self._sizes = sizes_of([self._leaves[i] for i in self._measured], self._graph)
            except ValueError:
                self._measured = []
                return None
        found: Pending | None = self._sizes.taken([grads[i] for i in self._measured])
        return found

    def by_arrays(self, leaves: Sequence[Array | None]) -> Sequence[Array | None]:
        """Return the parameters whose units no kernel clips, None in the place of others.

        It is empty if there are none.
        """
        clipped = self._clipped
        if len(clipped) == len(leaves):
            return ()
        return [None if i in clipped else p for i, p in enumerate(leaves)] if clipped else leaves

    def sweeps(self) -> dict[int, int]:
        """Return, for each parameter of a fused engine, the number of loops or kernels over it."""
        shares = self._shares.items()
        return {i: sweeps(rule, name) for (name, _, rule), share in shares for i in share.places}

    def by_kernels(self, grads: Sequence[Array | None]) -> bool:
        """Whether the GPU engine steps all parameters that have gradients."""
        return all(name == "gpu" for name, *_ in self._shares) and self._by_plans(grads)

    def _by_plans(self, grads: Sequence[Array | None]) -> bool:
        """Whether plans of fused engines step all parameters that have gradients."""
        return not (self.rows.given or any(grads[i] is not None for i in self.others))

    def resident(self, grads: Sequence[Array | None]) -> Any:
        """Return the plan that can keep totals and scalar state on its device, or None.

        It is the GPU engine's, if that serves all parameters of the step on one device; otherwise
        the host must know them.
        """
        share = self._alone
        if share is None or not self._by_plans(grads):
            return None
        return share.plan if share.plan.resides else None

    def totals(
        self,
        step: Step,
        leaves: Sequence[Array | None],
        grads: Sequence[Array | None],
        slots: Sequence[Slots],
    ) -> dict[int, list[Scalar]]:
        """Return a step's totals for each parameter with a gradient, by the parameter's index."""
        rest = set(self.others)
        rows = measure(step, leaves, [g if i in rest else None for i, g in enumerate(grads)], slots)
        for (_, layout, _), share in self._shares.items():
            if layout == step.layout:
                rows |= zip(share.places, share.totals(step, leaves, grads), strict=True)
        return {i: [float(x) for x in rows[i]] for i in sorted(rows) if grads[i] is not None}

    def ready(
        self,
        steps: Sequence[Step],
        leaves: Sequence[Array | None],
        grads: Sequence[Array | None],
    ) -> list[Act]:
        """Prepare the step of the parameters that fused engines serve.

        Raises
        ------
        TypeError, ValueError
            If a gradient does not match its parameter.
        """
        acts: list[Act] = []
        timed: list[Act] = []
        if self.rows.given:
            grads = self.rows.parted(grads)
            for name, act in self.rows.ready(steps):
                (timed if name == "cpu" else acts).append(act)
        for (name, layout, _), share in self._shares.items():
            for step in steps:
                if step.layout is layout or step.layout == layout:
                    (timed if name == "cpu" else acts).append(share.ready(step, leaves, grads))
        if not timed:
            return acts

        def sweep() -> None:
            start = perf_counter()
            for act in timed:
                act()
            self.seconds = perf_counter() - start

        acts.append(sweep)
        return acts

    def renew(self, steps: Sequence[Step]) -> None:
        """Write the next step's scalars where the kernels of a CUDA graph read them.

        Raises
        ------
        ValueError
            If their names are not those of the captured step.
        """
        if self._sizes is not None:
            self._sizes.renew()
        pairs = [(s, share) for s in steps for k, share in self._shares.items() if k[1] == s.layout]
        for step, share in pairs:
            share.plan.renew(share.numbers(step), step.seed, step.computed)

    def rest(
        self,
        steps: Sequence[Step],
        leaves: Sequence[Array | None],
        grads: Sequence[Array | None],
        slots: Sequence[Slots],
    ) -> InPlace:
        """Prepare the step of all other parameters, which runs after that of the fused engines.

        Gradients whose memory the step writes are copied.
        """
        chosen: list[Array | None] = [None] * len(leaves)
        for i in self.others:
            chosen[i] = grads[i]
        grads = stored(grads)
        asked = [i for i in self.others if grads[i] is not None and backend_of(grads[i]).mutable]
        if asked:
            stretches = Stretches()
            written = [p for p in leaves if p is not None and backend_of(p).writable(p)]
            stretches.add(*bounds(written))
            for k in stretches.touched(*bounds([grads[i] for i in asked])):
                whole, copy = chosen[asked[k]], backend_of(grads[asked[k]]).copy
                chosen[asked[k]] = whole.mapped(copy) if type(whole) is Rows else copy(whole)
        return InPlace(steps, leaves, chosen, slots)


def _turn(share: tuple[Key, Any]) -> int:
    return _SERVING.index(share[0][0])


def _taker(places: list[int], count: int) -> Callable[[Sequence[Any]], Sequence[Any]]:
    if len(places) == count:
        return lambda items: items
    return lambda items: [items[i] for i in places]


def _server(
    layout: Layout | None, p: Array, slots: Slots, rated: bool
) -> tuple[str | None, str | None]:
    """Return the fused engine that serves a parameter, or why none does."""
    if p is None:
        return None, None
    assert layout is not None
    if mode() == "array":
        return None, "the array engine was asked for"
    backend = backend_of(p)
    if not backend.writable(p):
        return None, f"{backend.name} arrays of this kind cannot be written"
    fused = mode() if mode() in FUSED else "cpu" if gpu_library(p) is None else "gpu"
    name = "offload" if _apart(p, slots) and mode() != "gpu" else fused
    engine = _engine(name)
    if engine is None:
        return None, f"this installation has no engine {name!r}"
    if rated and layout.rule.ratio is not None and name != "cpu":
        return None, f"engine {name!r} takes the totals of a tensor from one device"
    rule = stepped_rule(layout, p)
    if rule is None:
        return None, f"{layout.constraint!r} goes by norms of the new parameter"
    reason = engine.refusal(rule, p, slots)
    return (name, None) if reason is None else (None, reason)


def _apart(p: Array, slots: Slots) -> bool:
    """Whether a GPU parameter has its state in host memory."""
    return gpu_library(p) is not None and any(gpu_library(s) is None for s in slots.values())


def captures(leaves: Sequence[Array | None]) -> bool:
    """Whether a CUDA graph is being captured on the current stream of a parameter's device."""
    found = ((gpu_library(p), p) for p in leaves if p is not None)
    devices = {(library, library.number(p)) for library, p in found if library is not None}
    return any(library.captures(number) for library, number in devices)


def sizes_of(params: Sequence[Array], graph: Literal["", "sent", "alone"] = "alone") -> Any:
    """Return what takes the gradient norm of parameters on one GPU, which stays there.

    Raises
    ------
    ValueError
        If they are not on a single GPU.
    """
    from .gpu.sizes import Sizes

    return Sizes(list(params), graph)


def refuse_capturing(leaves: Sequence[Array | None]) -> None:
    """Raise a RuntimeError while a CUDA graph is being captured."""
    if captures(leaves):
        from .gpu.arrays import CAPTURING

        raise RuntimeError(CAPTURING)


def _refuse_outside(
    present: Sequence[int],
    leaves: Sequence[Array | None],
    paths: Sequence[str],
    reasons: Sequence[str | None],
) -> None:
    """Raise for parameters whose step is not in kernels of one device."""
    devices = set()
    for i in present:
        library, reason = gpu_library(leaves[i]), reasons[i]
        if library is None:
            reason = "it is on no GPU"
        elif reason is None:
            devices.add((library, library.number(leaves[i])))
            reason = "it is on another device than those before" if len(devices) > 1 else None
        if reason is not None:
            raise ValueError(f"a CUDA graph cannot hold a step of {named(paths[i])}: {reason}")


@cache
def _engine(name: str) -> Any:
    """Return the module of a fused engine; None if the package is missing."""
    # Imported lazily: the CPU engine takes longer to import than everything else.
    with IMPORTING, suppress(ModuleNotFoundError):
        return import_module(f".{name}.engine", __package__)
    return None
