"""The tensors of one library on one device, their gradients and the gradients' norm."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..._typing import Array
from ...arrays.backend import ITEMSIZE, reals
from ...arrays.identity import same_objects
from ...arrays.libraries import COMPLEX, COMPUTE, backend_of
from ...arrays.memory import Stretches
from ..steps import Computed
from .arrays import CAPTURING, Library, library_of
from .device import Device, Table, launches, start
from .glance import Glance
from .mirror import Mirror
from .norm import FIRST_NORM, KINDS, NORM
from .put import MOST_PUT, PUT
from .tables import Numbers, Totals, element_count, same_order

__all__ = ["Graph", "Place"]

Graph = Literal["", "sent", "alone"]
"""Whether steps are for a CUDA graph, and who updates the tables that its kernels read."""

Taken = tuple[int, bool, list[Any]]
"""Address of the table of gradients, whether one is float64, and objects to keep alive."""


class Place(ABC):
    """The tensors of one library on one device.

    Parameters
    ----------
    where : tuple of Library and int
        The library, and the CUDA device index.
    places : list of int
        Indices of the parameters among those of the plan.
    params : list of array
        The parameters.
    occupied : Stretches
        The memory that the whole step writes; this part adds its own to it.
    graph : {"", "sent", "alone"}
        Whether steps are for a CUDA graph. While one is captured, nothing is copied to the tables
        that its kernels read: they are ``"sent"`` before each replay, or the graph is
        self-contained (``"alone"``) and fills them itself.
    """

    def __init__(
        self,
        where: tuple[Library, int],
        places: list[int],
        params: list[Array],
        occupied: Stretches,
        graph: Graph = "",
    ) -> None:
        self.places, self._params, self._occupied = places, params, occupied
        self._graph = graph
        self._library, self._number = where
        self._device = self._library.device(self._number)
        self._dtypes = [backend_of(p).dtype(p) for p in params]
        self._known = [self._described(p) for p in params]
        self._places = self._library.places(params)
        self._at = np.array(self._places, np.int64)
        self._sizes = np.array([element_count(p) for p in params], np.int64)
        occupied.add(self._at, self._at + self._sizes * self._itemsizes(self._dtypes))
        with self._active():
            self._gradients = Mirror(self._device)
            self._put = self._device.kernel(PUT) if graph == "alone" else None
        self._walk = self._library.walk(params, self._number)
        self._glance, self._alike = Glance(self._library, self._number), False
        self._kinds: list[str] = []
        self._wide, self._narrows, self._clear, self._stale = False, False, False, True
        self._table = np.zeros(0, np.int64)
        self._bytes = self._codes = self._sizes
        self._norms: _Norms | None = None
        self._taken: tuple[list[Array | None], Taken] | None = None

    def _active(self) -> contextlib.AbstractContextManager[None]:
        return self._device.active(self._library.stream(self._number))

    @staticmethod
    def _itemsizes(dtypes: Sequence[str]) -> Numbers:
        return np.array([ITEMSIZE[reals(dtype)] for dtype in dtypes], np.int64)

    def _described(self, p: Array) -> tuple[Any, ...]:
        return tuple(p.shape), self._library.strides(p), backend_of(p).dtype(p)

    def fits(self, params: Sequence[Array]) -> bool:
        """Whether the parameters are as before, at the same addresses.

        Parameters
        ----------
        params : sequence of array
            As many parameters.

        Returns
        -------
        bool
            False if one has another address, shape, dtype or memory order.
        """
        if self._unmoved(params):
            return True
        for p, described in zip(params, self._known, strict=True):
            if (
                library_of(p) is not self._library
                or self._library.number(p) != self._number
                or self._described(p) != described
            ):
                return False
        return self._library.places(params) == self._places

    def quick(self, params: Sequence[Any], grads: Sequence[Any]) -> bool:
        """Whether all arrays of a step are as in the last one, types included.

        Parameters
        ----------
        params, grads : sequence of object
            As many parameters and gradients, or any objects in their places.

        Returns
        -------
        bool
            False if `fits` and `check` are to look at them.
        """
        if not self._unmoved(params) or self._library.captures(self._number):
            return False
        return self._glanced(grads)

    def _unmoved(self, params: Sequence[Any]) -> bool:
        """Whether parameters are the same objects, or like them, at the same addresses."""
        walk = self._walk
        if walk is not None and walk.read(tuple(params)):
            return bool((walk.found == self._at).all())
        if not same_objects(params, self._params):
            return False
        return self._library.fixed or self._library.places(params) == self._places

    def _recorded(self) -> bool:
        """Whether launches now are captured in the graph that these steps are for."""
        return bool(self._graph) and self._library.captures(self._number)

    def check(self, grads: Sequence[Array | None]) -> None:
        """Refuse gradients that do not match their parameters.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients.

        Raises
        ------
        RuntimeError
            If a CUDA graph is being captured.
        TypeError, ValueError
            If one has another shape or device, or is not real or complex as its parameter is.
        """
        if not self._graph and self._library.captures(self._number):
            raise RuntimeError(CAPTURING)
        # What has not changed since the last step is not checked again.
        if self._glanced(grads):
            return
        self._glance.forget()
        for g, p, dtype in zip(grads, self._params, self._dtypes, strict=True):
            if g is None:
                continue
            if not backend_of(g).dense(g):
                raise TypeError("found a sparse gradient, wanted a dense one")
            if library_of(g) is not self._library or self._library.number(g) != self._number:
                raise ValueError(f"found a gradient elsewhere, wanted it on device {self._number}")
            if tuple(g.shape) != tuple(p.shape):
                raise ValueError(f"found a gradient of shape {g.shape}, wanted {p.shape}")
            found = backend_of(g).dtype(g)
            if found not in COMPUTE or (found in COMPLEX) != (dtype in COMPLEX):
                raise TypeError(f"found a gradient of {found} for a parameter of {dtype}")

    def _glanced(self, grads: Sequence[Array | None]) -> bool:
        """Whether gradients equal those of the last step in all but their addresses."""
        # An interrupt may come between any two statements: the table is stale until it has been
        # written for the gradients that the glance remembers.
        stale, self._stale = self._stale, True
        self._alike = self._glance.same(grads)
        if self._alike:
            self._stale = stale or self._glance.moved
        return self._alike

    @abstractmethod
    def prepare(
        self,
        grads: Sequence[Array | None],
        values: Mapping[str, Mapping[str, Any]],
        seed: int | None,
        computed: Computed | None = None,
    ) -> Callable[[], None]:
        """Prepare a step of the tensors.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients, already accepted by `check`.
        values : mapping of str to mapping
            The per-step scalars, by compute dtype and name.
        seed : int or None
            The step's seed if slots are rounded stochastically.
        computed : Counting or Kept, optional
            Given if the per-step scalars are formulas that the device computes.

        Returns
        -------
        callable
            Launches the step.
        """

    def _settled(self, grads: list[Array | None]) -> list[str]:
        """Copy gradients that kernels cannot read directly; return the dtype of each."""
        kinds = list(self._dtypes)
        for k, (g, p) in enumerate(zip(grads, self._params, strict=True)):
            if g is None:
                continue
            kinds[k] = backend_of(g).dtype(g)
            if self._library.refusal(g) is not None or not same_order(self._library, g, p):
                grads[k] = self._library.conform(g, p, kinds[k])
        return kinds

    def _apart(self, grads: Sequence[Array | None]) -> tuple[list[Array | None], Numbers]:
        """Return the gradients and their addresses; copy those whose memory the step writes."""
        taken = list(grads)
        if self._alike:
            found = self._glance.now.copy()
        else:
            self._kinds = [reals(kind) for kind in self._settled(taken)]
            self._bytes = self._sizes * self._itemsizes(self._kinds)
            self._codes = np.array([KINDS[kind] for kind in self._kinds], np.int64)
            self._wide = "float64" in self._kinds
            pairs = zip(self._kinds, self._dtypes, strict=True)
            self._narrows = self._wide and any(
                kind == "float64" != COMPUTE[dtype] for kind, dtype in pairs
            )
            if same_objects(taken, grads):
                self._glance.keep(grads, int(self._bytes.sum()))
            found = np.array(self._library.places(taken), np.int64)
        ends = np.where(found, found + self._bytes, 0)
        touched = self._occupied.touched(found, ends)
        self._clear = not len(touched)
        for k in touched:
            taken[k] = self._library.conform(
                taken[k], self._params[k], backend_of(taken[k]).dtype(taken[k])
            )
            found[k] = self._library.address(taken[k])
        return taken, found

    def _taken_up(self, grads: Sequence[Array | None]) -> Taken:
        """Copy the gradients' addresses to the device."""
        # If no gradient has moved, the table on the device is still right.
        taken = list(grads)
        if self._stale or not (self._alike and self._clear):
            taken, found = self._apart(grads)
            self._table = np.concatenate([found, self._codes])
            self._stale = False
        later = self._recorded()
        if later and self._put is not None:
            room = self._filled(self._table)
            # After the step's launches, later allocations of the capture may reuse this memory.
            return self._library.address(room), self._wide, [*taken, room]
        return self._gradients.address(self._table, later=later), self._wide, taken

    def _filled(self, values: Numbers) -> Array:
        """Capture launches that write numbers, their arguments, into memory of the graph."""
        assert self._put is not None
        like = self._params[0]
        room = backend_of(like).zeros(like, "int64", (len(values),))
        at = self._library.address(room)
        for k in range(0, len(values), MOST_PUT):
            some = values[k : k + MOST_PUT].tolist()
            rest = [0] * (MOST_PUT - len(some))
            start(launches(self._put, 1, (at + 8 * k, len(some), *some, *rest)))
        return room

    def norm(self, grads: Sequence[Array | None]) -> Table | None:
        """Launch the pass that takes the norms of the gradients.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients.

        Returns
        -------
        Table or None
            The norm of all gradients, and from `FIRST_NORM` on that of each, in float64. None if
            the host has to know them, as a gradient may overflow the compute dtype of its
            parameter.
        """
        with self._active():
            found = self._passed(grads).result
        return None if self._narrows and not self._graph else found

    def read(self, norm: Table) -> float:
        """Return a norm that `norm` left on the device; syncs."""
        with self._active():
            return float(self._device.read(norm)[0])

    def read_each(self, norms: Table) -> list[float]:
        """Return the norm of each gradient that `norm` left on the device; syncs."""
        with self._active():
            found: list[float] = self._device.read(norms)[FIRST_NORM:].tolist()
        return found

    def sums(self, grads: Sequence[Array | None]) -> Numbers:
        """Return the sum of squares of each gradient; syncs.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients.

        Returns
        -------
        numpy.ndarray
            The sums; 0 for None.
        """
        with self._active():
            sums = self._device.read(self._passed(grads).sums)[: len(self._params)]
        self._taken = None
        return sums

    def _passed(self, grads: Sequence[Array | None]) -> _Norms:
        if self._norms is None:
            self._norms = _Norms(self._device, self._sizes)
        taken = self._taken_up(grads)
        self._norms.launch(*taken[:2])
        self._taken = list(grads), taken
        return self._norms


class _Norms:
    """The pass over the gradients, with its tables."""

    def __init__(self, device: Device, sizes: Numbers) -> None:
        self._totals, self._count = Totals(device, sizes, 3), len(sizes)
        self.sums = self._totals.sums
        self.result = device.table(np.zeros(FIRST_NORM + self._count))
        self._launch = device.kernel(NORM)

    def launch(self, gradients: int, shifted: bool) -> None:
        """Launch the sum of squares of each gradient, and the norm of all."""
        totals = self._totals
        partial, sums, arrived = totals.outputs
        addresses = (*totals.inputs, gradients, partial, sums, self.result.address, arrived)
        start(launches(self._launch, totals.blocks, (*addresses, self._count, int(shifted))))
