"""The CPU engine: one fused, multi-tensor loop over NumPy arrays and torch CPU tensors.

The loop is compiled from the very functions that the array engine calls, and returns the same bits
on any number of threads. A step is at most two passes over memory: one over the gradients if their
norm is needed, and one that does everything else.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..._locks import lock
from ..._typing import Array
from ...arrays.memory import Stretches
from ...arrays.per_model import Pieces
from ...arrays.trees import named
from ...rules.rule import Rule
from ...rules.stages import SLOTS
from .addresses import Reader
from .array_checks import Take
from .batches import Batch, Values
from .matrix_batches import MatrixBatch
from .per_model import wholes_of
from .recipes import EXPONENTS
from .serving import reader_of, refusal
from .tables import IntTable

__all__ = ["Plan", "refusal"]


class Plan:
    """Steps for a list of arrays with known addresses.

    Parameters
    ----------
    rule : Rule
        The update rule.
    params : sequence of array
        Parameters accepted by `refusal`, no two of which share memory.
    slots : sequence of mapping of str to array
        The slots of each by name: those of the rule, ``master`` where a 16-bit parameter
        has one, or ``compensation`` (of the parameter's dtype) in its place, ``average``
        where its moving average is wanted, and for a slot of 8-bit codes its exponents as
        ``<slot>_exponents``, see `arrayoptim.numerics.int8`. They are updated in place.
    paths : sequence of str, optional
        The parameters' names in messages.
    places : sequence of int, optional
        Their indices among all parameters of the optimizer, for stochastic rounding.
    threads : int, optional
        Number of threads; by default Numba's, or the number of processors.
    occupied : Stretches, optional
        The memory written by the whole step, to which this plan adds its own; by default, only that
        of this plan. Gradients that overlap it are copied.
    """

    def __init__(
        self,
        rule: Rule,
        params: Sequence[Array],
        slots: Sequence[Mapping[str, Array]],
        *,
        paths: Sequence[str] | None = None,
        places: Sequence[int] | None = None,
        threads: int | None = None,
        occupied: Stretches | None = None,
    ) -> None:
        count = len(params)
        self._paths = [str(k) for k in range(count)] if paths is None else list(paths)
        self._threads, self._lock = threads, lock()
        groups: dict[Any, list[int]] = {}
        for place, (param, state) in enumerate(zip(params, slots, strict=True)):
            reader = reader_of(param)
            if reader is None:
                raise TypeError(f"{named(self._paths[place])}: {refusal(rule, param, state)}")
            more = (*SLOTS.values(), *(name + EXPONENTS for name in rule.slots))
            names = (*rule.slots, *(name for name in more if name in state))
            kinds = tuple((name, reader.dtype(state[name])) for name in names)
            groups.setdefault((reader, reader.dtype(param), kinds), []).append(place)
        self._count = count
        among_all = np.arange(count) if places is None else np.asarray(places, np.int64)
        self._batches = [
            _batch(rule, key, mine, among_all[mine], params, slots) for key, mine in groups.items()
        ]
        self._params = tuple(params)
        self._grads: Sequence[Array | None] = ()
        self._wholes = wholes_of(params, self._batches)
        self._occupied = Stretches() if occupied is None else occupied
        for batch in self._batches:
            self._occupied.add(*batch.arrays.stretches())

    # ---- a step, for a caller that takes one at a time

    def look(self, params: Sequence[Array], grads: Sequence[Array | None]) -> bool:
        """Check the arrays of a step; later calls refer to these gradients.

        Parameters
        ----------
        params : sequence of array
            The parameters.
        grads : sequence of array or None
            The gradients; a parameter whose gradient is None is not changed.

        Returns
        -------
        bool
            False if a parameter has a new address, shape, dtype or memory order, or has become
            read-only: make another plan.

        Raises
        ------
        TypeError, ValueError
            If a gradient does not match its parameter.
        """
        if len(params) != self._count:
            return False
        if len(grads) != self._count:
            raise ValueError(f"found {len(grads)} gradients, wanted {self._count}")
        if self._whole(params, grads):
            return True
        # A new tuple keeps the gradients alive until they have been used.
        params, self._grads = tuple(params), (held := tuple(grads))
        fits = True
        for batch in self._batches:
            found = batch.look(params, held, self._paths, self._occupied, self._threads)
            fits = fits and found
        return fits

    def quick(self, params: Sequence[Any], grads: Sequence[Any]) -> bool:
        """Check the arrays of a step in machine code alone, types included; see `look`.

        Parameters
        ----------
        params, grads : sequence of object
            Parameters and gradients, or any objects in their places.

        Returns
        -------
        bool
            False if one is not as expected; `look` may still accept it.
        """
        if len(params) != self._count or len(grads) != self._count:
            return False
        # One more call would be noticeable in steps of a few small arrays.
        found = None if self._wholes is None else self._whole(params, grads)
        if found is not None:
            return found
        params, self._grads = tuple(params), (held := tuple(grads))
        for batch in self._batches:
            if not batch.quick(params, held, self._occupied, self._threads):
                return False
        return True

    def _whole(self, params: Sequence[Any], grads: Sequence[Any]) -> bool | None:
        """Check whole arrays of many models; None if there are none."""
        wholes = self._wholes
        if wholes is None or type(params) is not Pieces or type(grads) is not Pieces:
            return None
        self._grads = grads
        return wholes.look(params, grads, self._occupied, self._threads)

    def squares(self) -> list[float]:
        """Return the sum of squares of each gradient that was checked; 0 for None.

        Each equals `arrayoptim.numerics.sums.sum_of_squares`.
        """
        if len(self._batches) == 1:
            sums = self._batches[0].squares(self._threads)
        else:
            sums = np.zeros(self._count)
            for batch in self._batches:
                sums[batch.places] = batch.squares(self._threads)
        found: list[float] = sums.tolist()
        return found

    @property
    def nonfinite(self) -> int:
        """The number of infinite or NaN gradient entries found while squaring them."""
        return sum(batch.nonfinite() for batch in self._batches)

    def measure(self, values: Mapping[str, Values]) -> list[list[float]]:
        """Return the totals that a step of the rule needs of each parameter, before it is loaded.

        Parameters
        ----------
        values : mapping of str to mapping
            As for `load`; the coefficients that the rule's direction and measure take.

        Returns
        -------
        list of list of float
            For each parameter the totals of `Rule.norms` and `Rule.sums`; 0 for no gradient.
        """
        rows: list[list[float]] = [[] for _ in range(self._count)]
        for batch in self._batches:
            for place, row in zip(
                batch.places, batch.totals(values, self._threads).tolist(), strict=True
            ):
                rows[place] = row
        return rows

    def load(self, values: Mapping[str, Values], seed: int | None = None) -> None:
        """Prepare the step; whatever can fail fails here, before anything changes.

        Parameters
        ----------
        values : mapping of str to mapping
            For each compute dtype (``"float32"``, ``"float64"``) the rule's coefficients by
            name: numbers, or a list or one-dimensional array with one number for each parameter.
            Also, where that stage is wanted: ``scale`` and ``bound``, ``l2``, ``amount`` of decay,
            ``floor`` and ``ceiling``, ``keep`` and ``new`` of the average.
        seed : int, optional
            From `arrayoptim.numerics.rounding.step_seed`, where slots of less than 32 bits are
            rounded stochastically.

        Raises
        ------
        RuntimeError
            If the kernel cannot be compiled here.
        """
        for batch in self._batches:
            batch.load(values, seed, self._threads)

    def run(self) -> None:
        """Run the loaded step, or the rest of it after an interrupt."""
        for batch in self._batches:
            batch.run(self._threads)
        self._grads = ()

    # ---- the same, for callers in several threads

    def fits(self, params: Sequence[Array]) -> bool:
        """Whether the plan is for these arrays at their current addresses; see `look`."""
        if len(params) != self._count:
            return False
        with self._lock:
            return all(batch.arrays.fits(params) for batch in self._batches)

    def prepare(
        self,
        grads: Sequence[Array | None],
        values: Mapping[str, Values],
        seed: int | None = None,
    ) -> Callable[[], None]:
        """Check and load, and return the function that runs the step.

        Parameters
        ----------
        grads : sequence of array or None
            As for `look`.
        values : mapping of str to mapping
            As for `load`.
        seed : int, optional
            As for `load`.

        Returns
        -------
        callable
            To be called once, before any other method.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As from `look` and `load`; or if a parameter has moved.
        """
        with self._lock:
            if not self.look(self._params, grads):
                raise ValueError("a parameter is not where it was; make another plan")
            self.load(values, seed)
        return self._run_locked

    def _run_locked(self) -> None:
        with self._lock:
            self.run()

    def sweep(
        self,
        grads: Sequence[Array | None],
        values: Mapping[str, Values],
        seed: int | None = None,
    ) -> None:
        """Run a step in place, or raise like `prepare` before anything changes."""
        with self._lock:
            self.prepare(grads, values, seed)()


def _batch(
    rule: Rule,
    key: tuple[type[Reader], str, tuple[tuple[str, str], ...]],
    places: list[int],
    among_all: IntTable,
    params: Sequence[Array],
    slots: Sequence[Mapping[str, Array]],
) -> Batch:
    make_reader, dtype, kinds = key
    columns = {"p": tuple(params[k] for k in places)}
    columns |= {name: tuple(slots[k][name] for k in places) for name, _ in kinds}
    take = _taker(places, len(params))
    dtypes = {"p": dtype, **dict(kinds)}
    make = Batch if rule.kind != "matrix" else MatrixBatch
    return make(rule, make_reader(columns["p"]), dtypes, columns, (places, among_all), take)


def _taker(places: list[int], count: int) -> Take:
    if len(places) == count:
        return tuple
    if len(places) == 1:
        return lambda items: (items[places[0]],)
    return operator.itemgetter(*places)
