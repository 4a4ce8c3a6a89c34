"""Arrays of the same dtypes, which one call of one kernel sweeps."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from .._backend import COMPUTE
from .._rule import Rule
from .._signs import nonnegative_slots
from . import _cpu_threads as threads
from ._cpu_addresses import ITEMSIZE, Reader, reals
from ._cpu_native import Kernel, kernel
from ._cpu_source import squares_program
from ._cpu_sweep import STAGE_SLOTS, STAGES, sweep_program
from ._cpu_tables import address, cells, cut

PARALLEL = 200_000
"""Elements from which on more threads than one are faster."""

EXPONENTS = "_exponents"
"""What is added to the name of a slot for the exponents of its 8-bit codes."""

BY_CHANCE = ("bfloat16", "uint8")
"""Dtypes of slots that are rounded by chance where the step has a seed."""

Values = Mapping[str, Any]
Take = Callable[[Sequence[Any]], tuple[Any, ...]]


class Batch:
    """Some leaves of a tree, with the tables that kernels walk.

    Parameters
    ----------
    rule : Rule
        The update rule.
    reader : Reader
        Knows the parameters' shapes and order in memory.
    dtypes : mapping of str to str
        The dtype of each slot, and that of the parameters as ``p``.
    columns : mapping of str to tuple of array
        For each of these, the arrays of all leaves.
    places : sequence of int
        Which leaves of the tree they are.
    take : callable
        Gives this batch's part of a sequence over all leaves.
    """

    def __init__(
        self,
        rule: Rule,
        reader: Reader,
        dtypes: Mapping[str, str],
        columns: Mapping[str, tuple[Any, ...]],
        places: Sequence[int],
        take: Take,
    ) -> None:
        self.reader, self.take, self.dtype = reader, take, dtypes["p"]
        self.places = np.array(places, np.int64)
        self._rule, self._dtypes, self._columns = rule, dtypes, columns
        self._compute, self._kind = COMPUTE[self.dtype], self.dtype
        coded = any(name.endswith(EXPONENTS) for name in columns)
        self._nonnegative = nonnegative_slots(rule) if coded else (False,) * len(rule.slots)
        parts = 1 if reals(self.dtype) == self.dtype else 2
        sizes = [parts * int(np.prod(shape, dtype=np.int64)) for shape in reader.shapes]
        self.elements, self._chunks = sum(sizes), cut(sizes)
        count = len(sizes)
        self._pointers = np.zeros((count, len(columns)), np.int64)
        self._gradients, self._found = np.zeros((2, count, 1), np.int64)
        self._one_row, self._all_rows = np.zeros(count, np.int64), np.arange(count)
        for k, (name, arrays) in enumerate(columns.items()):
            own = type(reader)(arrays) if name.endswith(EXPONENTS) else reader
            if own.read(arrays, dtypes[name], self._pointers, k, True):
                raise ValueError(f"an array of {name} is not one that `refusal` accepts")
        self._tables = [
            address(table)
            for table in (self._chunks.bounds, self._chunks.table, self._gradients, self._pointers)
        ]

    def fits(self, params: tuple[Any, ...]) -> bool:
        """Whether these are the parameters of this batch, where they were in memory.

        Parameters
        ----------
        params : tuple of array
            The batch's part of the leaves.

        Returns
        -------
        bool
            False where an array has another address, shape, dtype or order, or was locked.
        """
        refused = self.reader.read(params, self.dtype, self._found, 0, True)
        return not refused and np.array_equal(self._found[:, 0], self._pointers[:, 0])

    def take_up(self, grads: tuple[Any, ...], paths: Sequence[str]) -> Any:
        """Note where the gradients are.

        Parameters
        ----------
        grads : tuple of array or None
            One gradient for each parameter.
        paths : sequence of str
            What messages call the leaves of the tree.

        Returns
        -------
        object
            What must live until the gradients have been used.
        """
        refused = self._locate(grads)
        if refused:
            for k in refused:
                self.reader.check(grads[k], k, self.dtype, paths[self.places[k]])
            grads = self._conformed(grads)
        alias = np.flatnonzero(self._gradients[:, 0] == self._pointers[:, 0])
        # Kernels take it that a gradient is not the parameter itself.
        alias = alias[self._gradients[alias, 0] != 0]
        if len(alias):
            grads = self._replaced(grads, alias.tolist())
        return grads

    def _locate(self, grads: tuple[Any, ...]) -> list[int]:
        return self.reader.read(grads, self._kind, self._gradients, 0, False)

    def _conformed(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        """Take the dtype that all gradients have; copy those that are not as kernels need them."""
        kinds = {self.reader.dtype(g) for g in grads if g is not None}
        wide = self.dtype if reals(self.dtype) != self.dtype else self._compute
        self._kind = kinds.pop() if len(kinds) == 1 and reals(self.dtype) == self.dtype else wide
        return self._replaced(grads, self._locate(grads))

    def _replaced(self, grads: tuple[Any, ...], places: list[int]) -> tuple[Any, ...]:
        copies = list(grads)
        for k in places:
            copies[k] = self.reader.conform(grads[k], k, self._kind)
        if self._locate(tuple(copies)):
            raise RuntimeError("a copy of a gradient is not as wanted")
        return tuple(copies)

    def sweep(self, values: Values, count: int, keep: Any) -> None:
        """Carry out a step on the arrays of the batch.

        Parameters
        ----------
        values : mapping
            Coefficients of the rule and the stages: numbers, or one for each leaf.
        count : int
            Number of threads.
        keep : object
            What `take_up` gave.
        """
        stages = self._stages(values)
        names = [*self._rule.coefficients, *(name for s in stages for name in STAGES[s])]
        row, rows = self._coefficients([values[name] for name in names])
        chance = self._by_chance() if "seed" in values else ()
        run = _sweep(self._rule, stages, self._streams(), self._compute, chance)
        seed = int(values["seed"]) if chance else 0
        tables = (address(rows), _place(row), address(self.places), seed, 0, 0)
        self._run(run, tables, count, (keep, row, self))
        self.reader.wrote(self._columns["p"])

    def _stages(self, values: Values) -> tuple[str, ...]:
        def used(stage: str) -> bool:
            slot = STAGE_SLOTS.get(stage, "p")
            return slot in self._columns and all(name in values for name in STAGES[stage])

        return tuple(stage for stage in STAGES if used(stage))

    def _by_chance(self) -> tuple[str, ...]:
        slots = enumerate(self._rule.slots)
        return tuple(f"s{k}" for k, name in slots if self._dtypes[name] in BY_CHANCE)

    def _streams(self) -> tuple[tuple[str, str], ...]:
        labels = {name: f"s{k}" for k, name in enumerate(self._rule.slots)}
        labels |= {name + EXPONENTS: f"x_{label}" for name, label in labels.items()}
        kinds = {name: reals(dtype) for name, dtype in self._dtypes.items()}
        for name, nonnegative in zip(self._rule.slots, self._nonnegative, strict=True):
            if kinds[name] == "uint8" and not nonnegative:
                kinds[name] = "int8"
        columns = ((labels.get(name, name), kinds[name]) for name in self._columns)
        return (("g", reals(self._kind)), *columns)

    def _coefficients(self, values: list[Any]) -> tuple[Any, Any]:
        """Give the table of coefficients and the row of each tensor in it."""
        if not any(getattr(value, "ndim", 0) for value in values):
            return (ctypes.c_double * len(values))(*values), self._one_row
        parts = [self.take(v) if getattr(v, "ndim", 0) else v for v in values]
        full = [np.broadcast_to(np.asarray(v, np.float64), len(self._all_rows)) for v in parts]
        return np.stack(full, axis=1), self._all_rows

    def squares(self, count: int, keep: Any) -> tuple[list[float], int]:
        """Give the sum of squares of each gradient, and how many entries are not finite.

        Parameters
        ----------
        count : int
            Number of threads.
        keep : object
            What `take_up` gave.

        Returns
        -------
        sums : list of float
            By `arrayoptim._norms.sum_of_squares`; 0 for None.
        nonfinite : int
            Infinite or NaN entries of all gradients together.
        """
        chunks = len(self._chunks.table)
        sums, counts = np.zeros(chunks), np.zeros(chunks, np.int64)
        run = _squares(reals(self._kind))
        last = (0, 0, 0, 0, address(sums), address(counts))
        self._run(run, last, count, (keep, sums, counts, self))
        # bincount adds one after another, as the specification does.
        tensors = self._chunks.table[:, 0]
        totals = np.bincount(tensors, weights=sums, minlength=len(self._one_row))
        return totals.tolist(), int(counts.sum())

    def _run(self, run: Kernel, tables: tuple[int, ...], count: int, keep: Any) -> None:
        tasks = self._chunks.tasks
        job = cells(0, 0, tasks, *self._tables, *tables, threads.yield_address())
        threads.run(run, job, keep, min(count, tasks) if self.elements > PARALLEL else 1)

    def traffic(self, values: Values) -> int:
        """Give the bytes that a sweep reads and writes.

        Parameters
        ----------
        values : mapping
            As for `sweep`.

        Returns
        -------
        int
            The number of bytes.
        """
        stages = self._stages(values)
        unused = {slot for stage, slot in STAGE_SLOTS.items() if stage not in stages}
        used = [name for name in self._columns if name not in unused]
        used = [name for name in used if not name.endswith(EXPONENTS)]
        each = sum(2 * ITEMSIZE[reals(self._dtypes[name])] for name in used)
        return self.elements * (each + ITEMSIZE[reals(self._kind)])


@cache
def _sweep(
    rule: Rule,
    stages: tuple[str, ...],
    streams: tuple[tuple[str, str], ...],
    compute: str,
    chance: tuple[str, ...],
) -> Kernel:
    return kernel(sweep_program(rule, stages, streams, compute, chance))


@cache
def _squares(dtype: str) -> Kernel:
    return kernel(squares_program(dtype))


def _place(row: Any) -> int:
    return address(row) if isinstance(row, np.ndarray) else ctypes.addressof(row)
