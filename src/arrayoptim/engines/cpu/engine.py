"""The CPU engine: one fused, multi-tensor loop over NumPy arrays and torch CPU tensors.

The loop is compiled from the very functions that the array engine calls, and gives the
same bits on any number of threads. A step is at most two passes over memory: one over
the gradients where their norm is wanted, and one that does everything else.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..._locks import lock
from ..._typing import Array
from ...arrays.backend import COMPUTE, FLOATS
from ...arrays.memory import Stretches
from ...arrays.trees import named
from ...numerics.rounding import GROUP
from ...rules.rule import Rule
from ...rules.stages import SLOTS
from .addresses import Reader
from .batches import Batch, Values
from .looking import Take
from .native import refusal as machine_refusal
from .numpy import NumPyReader
from .recipes import EXPONENTS
from .tables import IntTable
from .torch import TorchReader

__all__ = ["Plan", "refusal"]


def refusal(rule: Rule, param: Array, slots: Mapping[str, Array]) -> str | None:
    """Say why the engine does not serve a parameter.

    Parameters
    ----------
    rule : Rule
        The update rule.
    param : array
        The parameter.
    slots : mapping of str to array
        Its slots.

    Returns
    -------
    str or None
        The reason; None where the engine serves it.
    """
    if rule.kind == "matrix":
        return f"the rule {rule.name} is no loop over elements"
    if not _has_numba():
        return "Numba is not installed"
    reader = _reader(param)
    if reader is None:
        return f"a {type(param).__qualname__} is neither a NumPy array nor a torch tensor"
    reason = reader.refusal(param, True) or _order_refusal(reader, param, param)
    if reason is None and reader.dtype(param) not in COMPUTE:
        reason = f"there is no arithmetic for {reader.dtype(param)}"
    for name, array in slots.items():
        if reason is None:
            reason = _slot_refusal(reader, name, array, param, slots)
    return reason or machine_refusal(map(reader.dtype, (param, *slots.values())))


def _order_refusal(reader: type[Reader], array: Array, param: Array) -> str | None:
    if array.shape == param.shape and reader.dense(array, param):
        return None
    return "its elements are not side by side in the order of the parameter's"


def _slot_refusal(
    reader: type[Reader], name: str, array: Array, param: Array, slots: Mapping[str, Array]
) -> str | None:
    reason = reader.refusal(array, True)
    dtype = "" if reason else reader.dtype(array)
    if reason is None and name.endswith(EXPONENTS):
        groups = -(-math.prod(param.shape) // GROUP)
        good = dtype == "int16" and tuple(array.shape) == (groups,) and reader.dense(array, array)
        reason = None if good else f"it is not an array of {groups} int16"
    elif reason is None:
        coded = dtype == "uint8" and name + EXPONENTS in slots
        if dtype not in COMPUTE and not (coded and reader.dtype(param) in FLOATS):
            reason = f"there is no arithmetic for {dtype}"
        reason = reason or _order_refusal(reader, array, param)
    return reason and f"slot {name!r}: {reason}"


@cache
def _has_numba() -> bool:
    return find_spec("numba") is not None


def _reader(param: Array) -> type[Reader] | None:
    if isinstance(param, np.ndarray):
        return NumPyReader
    torch = sys.modules.get("torch")
    return TorchReader if torch is not None and isinstance(param, torch.Tensor) else None


class Plan:
    """Steps for one list of arrays, of which it knows the addresses.

    Parameters
    ----------
    rule : Rule
        The update rule.
    params : sequence of array
        Parameters that `refusal` accepts, no two of which share memory.
    slots : sequence of mapping of str to array
        The slots of each by name: those of the rule, ``master`` where a 16-bit parameter
        has one, or ``compensation`` (of the parameter's dtype) in its place, ``average``
        where its moving average is wanted, and for a slot of 8-bit codes its exponents as
        ``<slot>_exponents``, see `arrayoptim.numerics.int8`. They are updated in place.
    paths : sequence of str, optional
        What messages call the parameters.
    places : sequence of int, optional
        Their places among all parameters of the optimizer, for rounding by chance.
    threads : int, optional
        Number of threads; by default Numba's, or that of the processors.
    occupied : Stretches, optional
        The memory that the whole step writes, to which this plan adds its own; that of this plan
        alone by default. Gradients that lie in it are copied.
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
            reader = _reader(param)
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
        self._grads: tuple[Array | None, ...] = ()
        self._occupied = Stretches() if occupied is None else occupied
        for batch in self._batches:
            self._occupied.add(*batch.arrays.stretches())

    # ---- a step, for a caller who takes one at a time

    def look(self, params: Sequence[Array], grads: Sequence[Array | None]) -> bool:
        """Look at the arrays of a step; what follows is about these gradients.

        Parameters
        ----------
        params : sequence of array
            The parameters.
        grads : sequence of array or None
            The gradients; a parameter whose gradient is None stays as it is.

        Returns
        -------
        bool
            False where a parameter has another address, shape, dtype or order in memory
            than when the plan was made, or can no longer be written: make another plan.

        Raises
        ------
        TypeError, ValueError
            If a gradient does not fit its parameter.
        """
        if len(params) != self._count:
            return False
        if len(grads) != self._count:
            raise ValueError(f"found {len(grads)} gradients, wanted {self._count}")
        # A tuple of one's own keeps the gradients alive until they have been used.
        params, self._grads = tuple(params), tuple(grads)
        known = params, self._grads, self._paths, self._occupied, self._threads
        return all([batch.look(*known) for batch in self._batches])  # noqa: C419  faster

    def squares(self) -> list[float]:
        """Return the sum of squares of each gradient that was looked at; 0 for None.

        Each is what `arrayoptim.numerics.sums.sum_of_squares` gives.
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
        """How many entries of the gradients were infinite or NaN when their squares were asked."""
        return sum(batch.nonfinite() for batch in self._batches)

    def measure(self, values: Mapping[str, Values]) -> list[list[float]]:
        """Return what a step of the rule has to know of each parameter, before it is loaded.

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
        """Make all ready for the step; what can fail, fails here, and nothing has changed.

        Parameters
        ----------
        values : mapping of str to mapping
            For each type of arithmetic (``"float32"``, ``"float64"``) the rule's coefficients by
            name: numbers, or a list or one-dimensional array with one number for each parameter.
            Also, where that stage is wanted: ``scale`` and ``bound``, ``l2``, ``amount`` of decay,
            ``floor`` and ``ceiling``, ``keep`` and ``new`` of the average.
        seed : int, optional
            From `arrayoptim.numerics.rounding.step_seed`, where slots of less than 32 bits are
            rounded by chance.

        Raises
        ------
        RuntimeError
            If the kernel cannot be compiled here.
        """
        for batch in self._batches:
            batch.load(values, seed, self._threads)

    def run(self) -> None:
        """Carry out the step that was loaded; where that was interrupted, what is left of it."""
        for batch in self._batches:
            batch.run(self._threads)
        self.drop()

    def drop(self) -> None:
        """Forget the gradients that were looked at."""
        self._grads = ()
        for batch in self._batches:
            batch.arrays.drop()

    # ---- the same, for callers in several threads

    def fits(self, params: Sequence[Array]) -> bool:
        """Whether the plan is for these arrays, where they are now; see `look`."""
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
        """Make all ready for a step; what can fail, fails here, and nothing has changed.

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
            Carries out the step. It is to be called once, before any other method.

        Raises
        ------
        TypeError, ValueError
            If a gradient does not fit its parameter.
        RuntimeError
            If the kernel cannot be compiled here.
        """
        with self._lock:
            self._look_again(grads)
            self.load(values, seed)
        return self._run_locked

    def _run_locked(self) -> None:
        with self._lock:
            self.run()

    def _look_again(self, grads: Sequence[Array | None]) -> None:
        if not self.look(self._params, grads):
            raise ValueError("a parameter is not where it was; make another plan")

    def sweep(
        self,
        grads: Sequence[Array | None],
        values: Mapping[str, Values],
        seed: int | None = None,
    ) -> None:
        """Carry out a step in place.

        Parameters
        ----------
        grads : sequence of array or None
            As for `prepare`.
        values : mapping of str to mapping
            As for `prepare`.
        seed : int, optional
            As for `prepare`.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As by `prepare`. Nothing has changed then.
        """
        with self._lock:
            self.prepare(grads, values, seed)()

    def totals(
        self, grads: Sequence[Array | None], values: Mapping[str, Values]
    ) -> list[list[float]]:
        """Return what a step of the rule has to know of each parameter; see `measure`."""
        with self._lock:
            self._look_again(grads)
            return self.measure(values)

    def sums_of_squares(self, grads: Sequence[Array | None]) -> tuple[list[float], int]:
        """Return the sum of squares of each gradient, and how many entries are not finite."""
        with self._lock:
            self._look_again(grads)
            return self.squares(), self.nonfinite


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
    return Batch(rule, make_reader(columns["p"]), dtypes, columns, (places, among_all), take)


def _taker(places: list[int], count: int) -> Take:
    if len(places) == count:
        return tuple
    if len(places) == 1:
        return lambda items: (items[places[0]],)
    return operator.itemgetter(*places)
