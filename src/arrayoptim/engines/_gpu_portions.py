"""The tensors of one library on one device: gradients, their norm, the launches of a step."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._arrays import COMPLEX, COMPUTE, backend_of
from .._norms import BLOCK
from .._overlap import Stretches
from .._rule import Rule
from .._typing import Array
from ..gradients import Pending
from ._cpu_addresses import reals
from ._cpu_sweep import STAGE_SLOTS
from ._gpu_arrays import Library, library_of
from ._gpu_batches import Batch, Numbers, addresses, chunks, element_count
from ._gpu_device import Device, Mirror, Table
from ._gpu_norm import KINDS, NORM
from ._gpu_sweep import ITEMSIZE

__all__ = ["Portion"]


class Portion:
    """The tensors of one library on one device.

    Parameters
    ----------
    rule : Rule
        The update rule.
    where : tuple of Library and int
        The library, and the number of the device.
    places : list of int
        Places of the parameters among those of the plan.
    params : list of array
        The parameters.
    slots : list of mapping of str to array
        The slots of each.
    occupied : Stretches
        The memory that the whole step writes, to which this adds its own.
    """

    def __init__(
        self,
        rule: Rule,
        where: tuple[Library, int],
        places: list[int],
        params: list[Array],
        slots: Sequence[Mapping[str, Array]],
        occupied: Stretches,
    ) -> None:
        self.places, self._params, self._occupied = places, params, occupied
        self._library, self._number = where
        self._device = self._library.device(self._number)
        self._dtypes = [backend_of(p).dtype(p) for p in params]
        self._known = [self._described(p) for p in params]
        self._at = addresses(self._library, params)
        self._sizes = np.array([element_count(p) for p in params], np.int64)
        occupied.add(self._at, self._at + self._sizes * self._itemsizes(self._dtypes))
        groups: dict[Any, list[int]] = {}
        for k, (dtype, held) in enumerate(zip(self._dtypes, slots, strict=True)):
            names = (*rule.slots, *(name for name in STAGE_SLOTS.values() if name in held))
            kinds = {name: backend_of(held[name]).dtype(held[name]) for name in names}
            groups.setdefault((("p", dtype), *kinds.items()), []).append(k)
        with self._active():
            self._gradients = Mirror(self._device)
            self._batches = [
                Batch(
                    rule,
                    dict(kinds),
                    mine,
                    [params[k] for k in mine],
                    [slots[k] for k in mine],
                    (self._library, self._device),
                )
                for kinds, mine in groups.items()
            ]
        self._norms: _Norms | None = None
        self._taken: tuple[list[Array | None], tuple[int, bool, Any]] | None = None

    def _active(self) -> contextlib.AbstractContextManager[None]:
        return self._device.active(self._library.stream(self._number))

    @staticmethod
    def _itemsizes(dtypes: Sequence[str]) -> Numbers:
        return np.array([ITEMSIZE[reals(dtype)] for dtype in dtypes], np.int64)

    def _described(self, p: Array) -> tuple[Any, ...]:
        return tuple(p.shape), self._library.strides(p), backend_of(p).dtype(p)

    def fits(self, params: Sequence[Array]) -> bool:
        """Whether these are the parameters, where they were in memory.

        Parameters
        ----------
        params : sequence of array
            As many parameters.

        Returns
        -------
        bool
            False where one has another address, shape, dtype or order.
        """
        for p, known, described in zip(params, self._params, self._known, strict=True):
            if p is not known and (
                library_of(p) is not self._library
                or self._library.number(p) != self._number
                or self._described(p) != described
            ):
                return False
        return bool(np.array_equal(addresses(self._library, params), self._at))

    def check(self, grads: Sequence[Array | None]) -> None:
        """Refuse gradients that do not fit their parameters.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients.

        Raises
        ------
        TypeError, ValueError
            If one is of another shape, device or kind of number.
        """
        for g, p, dtype in zip(grads, self._params, self._dtypes, strict=True):
            if g is None:
                continue
            if library_of(g) is not self._library or self._library.number(g) != self._number:
                raise ValueError(f"found a gradient elsewhere, wanted it on device {self._number}")
            if tuple(g.shape) != tuple(p.shape):
                raise ValueError(f"found a gradient of shape {g.shape}, wanted {p.shape}")
            found = backend_of(g).dtype(g)
            if found not in COMPUTE or (found in COMPLEX) != (dtype in COMPLEX):
                raise TypeError(f"found a gradient of {found} for a parameter of {dtype}")

    def _taken_up(self, grads: Sequence[Array | None]) -> tuple[int, bool, Any]:
        """Put the gradients' addresses on the device; give the table's, and what must live."""
        taken = list(grads)
        for batch in self._batches:
            batch.settle(taken)
        kinds = [self._dtypes[0]] * len(taken)
        for batch in self._batches:
            for k in batch.places:
                kinds[k] = reals(batch.kind)
        found = addresses(self._library, taken)
        ends = np.where(found, found + self._sizes * self._itemsizes(kinds), 0)
        for k in self._occupied.touched(found, ends):
            taken[k] = self._library.conform(
                taken[k], self._params[k], backend_of(taken[k]).dtype(taken[k])
            )
            found[k] = self._library.address(taken[k])
        codes = [KINDS[kind] for kind in kinds]
        table = np.concatenate([found, np.array(codes, np.int64)])
        return self._gradients.address(table), "float64" in kinds, taken

    def prepare(
        self, grads: Sequence[Array | None], values: Mapping[str, Mapping[str, Any]]
    ) -> Callable[[], None]:
        """Make all ready for a step.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients.
        values : mapping of str to mapping
            The numbers of the step, by the type of the arithmetic.

        Returns
        -------
        callable
            Launches the step.
        """
        taken, self._taken = self._taken, None
        with self._active():
            # The pass that has found the norm for this step has just looked at the gradients.
            if not (taken and _waits(values) and all(map(operator.is_, taken[0], grads))):
                taken = list(grads), self._taken_up(grads)
            gradients, _, keep = taken[1]
            runs = [batch.prepare(values[batch.compute], gradients) for batch in self._batches]

        def sweep(keep: Any = keep) -> None:
            with self._active():
                for run in runs:
                    run()

        return sweep

    def norm(self, grads: Sequence[Array | None]) -> Table:
        """Launch the pass over the gradients.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients.

        Returns
        -------
        Table
            The norm of all, a float64.
        """
        with self._active():
            return self._passed(grads).result

    def read(self, norm: Table) -> float:
        """Wait for the device, and give a norm that was left on it."""
        with self._active():
            return float(self._device.read(norm)[0])

    def sums(self, grads: Sequence[Array | None]) -> Numbers:
        """Give the sum of squares of each gradient, which waits for the device.

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


def _waits(values: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a step takes its clip factor from the device."""
    scales = (numbers.get("scale") for numbers in values.values())
    return any(
        isinstance(x, Pending) or getattr(x, "dtype", None) == np.dtype(object) for x in scales
    )


class _Norms:
    """The pass over the gradients, with its tables."""

    def __init__(self, device: Device, sizes: Numbers) -> None:
        cut = chunks(sizes.tolist(), BLOCK)
        self._blocks, self._count = len(cut), len(sizes)
        first = np.searchsorted(cut[:, 0], np.arange(len(sizes) + 1)).astype(np.int64)
        self._in = [device.table(each) for each in (cut, sizes, first)]
        self._partial = device.table(np.zeros(3 * max(self._blocks, 1)))
        self.sums, self.result = device.table(np.zeros(3 * len(sizes))), device.table(np.zeros(4))
        self._arrived = device.table(np.zeros(1, np.int32))
        self._launch = device.kernel(NORM)

    def launch(self, gradients: int, shifted: bool) -> None:
        """Find the sum of squares of each gradient, and the norm of all."""
        if not self._blocks:
            return
        inputs = [each.address for each in self._in]
        outputs = [self._partial, self.sums, self.result, self._arrived]
        addresses = (*inputs, gradients, *(each.address for each in outputs))
        self._launch(self._blocks, (*addresses, self._count, int(shifted)))
