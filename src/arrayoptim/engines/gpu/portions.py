"""The tensors of one library on one device, and the launches that step them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..._typing import Array
from ...arrays.identity import same_objects
from ...arrays.libraries import backend_of
from ...arrays.memory import Stretches
from ...gradients import Pending
from ...numerics.slots import EXPONENTS
from ...rules.rule import Rule
from ...rules.stages import SLOTS
from ..resident import Kept, Resident
from ..steps import Computed, Counting
from .arrays import Library
from .batches import Batch, Prepared
from .derived import Derived
from .device import Launches, start
from .matrix_batches import MatrixBatch
from .measure import quantities
from .place import Graph, Place

__all__ = ["Portion"]


class Portion(Place):
    """The tensors of one library on one device, with their slots.

    Parameters
    ----------
    rule : Rule
        The update rule.
    where : tuple of Library and int
        The library, and the CUDA device index.
    places : list of int
        Indices of the parameters among those of the plan.
    params : list of array
        The parameters.
    slots : list of mapping of str to array
        The slots of each parameter.
    occupied : Stretches
        The memory that the whole step writes; this part adds its own to it.
    ordinals : sequence of int
        Indices of the parameters in the tree.
    graph : {"", "sent", "alone"}
        Whether steps are for a CUDA graph; see `Place`.
    """

    def __init__(
        self,
        rule: Rule,
        where: tuple[Library, int],
        places: list[int],
        params: list[Array],
        slots: Sequence[Mapping[str, Array]],
        occupied: Stretches,
        ordinals: Sequence[int],
        graph: Graph = "",
    ) -> None:
        super().__init__(where, places, params, occupied, graph)
        self._rule, self._ordinals = rule, ordinals
        groups: dict[Any, list[int]] = {}
        for k, (dtype, held) in enumerate(zip(self._dtypes, slots, strict=True)):
            exponents = (name + EXPONENTS for name in rule.slots)
            others = (name for name in (*exponents, *SLOTS.values()) if name in held)
            names = (*rule.slots, *others)
            kinds = {name: backend_of(held[name]).dtype(held[name]) for name in names}
            groups.setdefault((("p", dtype), *kinds.items()), []).append(k)
        make = Batch if rule.kind != "matrix" else MatrixBatch
        with self._active():
            self._batches = [
                make(
                    rule,
                    dict(kinds),
                    mine,
                    [params[k] for k in mine],
                    [slots[k] for k in mine],
                    (self._library, self._device),
                    [ordinals[k] for k in mine],
                    graph,
                )
                for kinds, mine in groups.items()
            ]

    def _settled(self, grads: list[Array | None]) -> list[str]:
        """Copy gradients so that each launch can read all of its own in one dtype; see `Place`."""
        kinds = list(self._dtypes)
        for batch in self._batches:
            batch.settle(grads)
            for k in batch.places:
                kinds[k] = batch.kind
        return kinds

    def prepare(
        self,
        grads: Sequence[Array | None],
        values: Mapping[str, Mapping[str, Any]],
        seed: int | None,
        computed: Computed | None = None,
    ) -> Callable[[], None]:
        """Prepare the launches of a step; see `Place`."""
        taken, self._taken = self._taken, None
        with self._active():
            # If the norm pass of this step read the same gradients, their table is ready.
            if not (taken and _waits(values) and same_objects(taken[0], grads)):
                taken = list(grads), self._taken_up(grads)
            gradients, _, keep = taken[1]
            later = self._recorded()
            kept = computed if isinstance(computed, Kept) else None
            counting = computed if isinstance(computed, Counting) else None
            wanted: dict[str, Any] = {"later": later, "measured": kept is not None}
            found = [
                batch.prepare(values[batch.compute], gradients, seed, counting, **wanted)
                for batch in self._batches
            ]
            before, after = self._derived(kept, found, later)

        calls = [*before, *(x for each in found for x in each.measures), *after]
        calls += [x for each in found for x in each.sweeps]

        def sweep(keep: Any = keep) -> None:
            with self._active():
                for call in calls:
                    start(call)
                for batch in self._batches:
                    batch.wrote()

        return sweep

    def _derived(
        self, kept: Kept | None, found: Sequence[Prepared], later: bool
    ) -> tuple[list[Launches], list[Launches]]:
        """Prepare the launches that derive scalars from totals and scalar state."""
        if kept is None:
            return [], []
        targets = [target for each in found for target in each.targets]
        room = len(self._params) * len(self._rule.given) if self._graph else 0
        return self.derived.prepare(kept, self._holds(kept), targets, later, room)

    def _holds(self, kept: Kept) -> bool:
        """Whether the device holds the scalar state before a step."""
        return isinstance(kept.before, Resident) and kept.before.is_of(self)

    @cached_property
    def derived(self) -> Derived:
        """The scalars that the device derives from totals and scalar state."""
        sums = np.zeros((len(self._params), quantities(self._rule)), np.int64)
        for batch in self._batches:
            sums[batch.places] = batch.sums()
        return Derived(self._device, self._rule, sums, self._ordinals)

    def read_state(self) -> dict[str, float]:
        """Return the scalar state that the device holds; syncs."""
        with self._active():
            return self.derived.read()

    def state_views(self) -> dict[str, Array]:
        """Return the scalar state that the device holds as 0-d arrays of the library, no copies."""
        return self.derived.views(self._library)

    def totals(
        self, grads: Sequence[Array | None], values: Mapping[str, Mapping[str, Any]]
    ) -> list[list[float]]:
        """Compute the totals of each tensor; syncs with the device.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients, already accepted by `check`.
        values : mapping of str to mapping
            The per-step scalars, by compute dtype and name.

        Returns
        -------
        list of list of float
            For each tensor, the totals that `Rule.totals` names.
        """
        found: list[list[float]] = [[]] * len(self._params)
        with self._active():
            # Keeps copies that the pass may read alive until it has completed.
            taken = self._taken_up(grads)
            gradients = taken[0]
            for batch in self._batches:
                rows = batch.totals(values[batch.compute], gradients)
                for k, row in zip(batch.places, rows, strict=True):
                    found[k] = row
        return found

    def renew(
        self,
        values: Mapping[str, Mapping[str, Any]],
        seed: int | None,
        computed: Computed | None = None,
    ) -> None:
        """Write the next step's scalars where the kernels of a CUDA graph read them.

        Parameters
        ----------
        values, seed, computed
            As for `prepare`.
        """
        with self._active():
            self._gradients.flush()
            targets = [
                target
                for batch in self._batches
                for target in batch.renew(values[batch.compute], seed)
            ]
            if isinstance(computed, Kept):
                self.derived.renew(computed, self._holds(computed), targets)


def _waits(values: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a step computes its clip factor from a norm on the device."""
    scales = (numbers.get("scale") for numbers in values.values())
    return any(
        isinstance(x, Pending) or getattr(x, "dtype", None) == np.dtype(object) for x in scales
    )
