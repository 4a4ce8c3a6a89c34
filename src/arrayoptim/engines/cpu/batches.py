"""Arrays of the same dtypes, which one call of one kernel sweeps."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from ...arrays.backend import COMPUTE
from ...arrays.memory import Addresses, Stretches
from ...numerics.rounding import NOISE
from ...rules.rule import Rule
from ..totals import part, ratio
from . import threads
from .addresses import ITEMSIZE, Reader, reals
from .columns import Column
from .native import Kernel, kernel
from .recipes import EXPONENTS, Recipes
from .source import CELLS, JOB, squares_program
from .tables import IntTable, address, cut

PARALLEL = 400_000
"""Elements from which on more threads than one are faster."""

_Job = ctypes.c_int64 * len(JOB)

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
    places : tuple of list of int and numpy.ndarray
        Which of the plan's parameters they are, and which of all.
    take : callable
        Gives this batch's part of a sequence over all leaves.
    """

    def __init__(
        self,
        rule: Rule,
        reader: Reader,
        dtypes: Mapping[str, str],
        columns: Mapping[str, tuple[Any, ...]],
        places: tuple[list[int], IntTable],
        take: Take,
    ) -> None:
        self.reader, self.take, self.dtype = reader, take, dtypes["p"]
        self.places, self._among_all = places
        self._columns, self._compute, self._rule = columns, COMPUTE[self.dtype], rule
        self._recipes = Recipes(rule, {name: dtypes[name] for name in columns})
        parts = 1 if reals(self.dtype) == self.dtype else 2
        sizes = [parts * math.prod(shape) for shape in reader.shapes]
        self.elements: int = sum(sizes)
        self._sizes = np.asarray(sizes, np.int64)
        self._apart = b""
        self._chunks, count = cut(sizes), len(sizes)
        self._pointers = np.zeros((count, len(columns)), np.int64)
        self._gradients, self._found = np.zeros((2, count, 1), np.int64)
        for k, (name, arrays) in enumerate(columns.items()):
            own = type(reader)(arrays) if name.endswith(EXPONENTS) else reader
            if Column(own, dtypes[name], self._pointers, k, True, self._found).read(arrays):
                raise ValueError(f"an array of {name} is not one that `refusal` accepts")
        self._params = Column(reader, self.dtype, self._found, 0, True, self._pointers)
        self._kinds: dict[str, Column] = {}
        self._use(self.dtype)
        self._rows, self._row = np.arange(count), np.zeros(count, np.int64)
        cell = dict.fromkeys(JOB, 0) | {
            "tasks": self._chunks.tasks,
            "bounds": address(self._chunks.bounds),
            "chunks": address(self._chunks.table),
            "gradients": address(self._gradients),
            "pointers": address(self._pointers),
            "rows": address(self._row),
            "leaves": address(self._among_all),
            "noise": address(NOISE),
            "yield_": threads.yield_address(),
        }
        self._job = bytes(_Job(*cell.values()))

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
        return not self._params.read(params) and self._params.same == len(params)

    def stretches(self) -> tuple[Addresses, Addresses]:
        """Give the first address of each parameter, and the one after its last.

        Returns
        -------
        (numpy.ndarray, numpy.ndarray)
            The addresses.
        """
        starts = self._pointers[:, 0]
        return starts, starts + self._sizes * ITEMSIZE[reals(self.dtype)]

    def take_up(
        self, grads: tuple[Any, ...], paths: Sequence[str], occupied: Stretches
    ) -> tuple[Any, ...]:
        """Note where the gradients are.

        Parameters
        ----------
        grads : tuple of array or None
            One gradient for each parameter.
        paths : sequence of str
            What messages call the leaves of the tree.
        occupied : Stretches
            The memory that the step writes. A gradient that reaches into it is copied.

        Returns
        -------
        tuple
            What must live until the gradients have been used.
        """
        refused = self._located.read(grads)
        if refused:
            for k in refused:
                self.reader.check(grads[k], k, self.dtype, paths[self.places[k]])
            grads = self._conformed(grads)
        # Most programs write gradients where they were.
        if self._gradients.tobytes() != self._apart:
            starts = self._gradients[:, 0]
            ends = starts + self._sizes * ITEMSIZE[reals(self._kind)]
            grads = self._replaced(grads, occupied.touched(starts, ends))
            self._apart = self._gradients.tobytes()
        return grads

    def _use(self, kind: str) -> None:
        """Take gradients of that dtype from now on."""
        if kind not in self._kinds:
            column = Column(self.reader, kind, self._gradients, 0, False, self._pointers)
            self._kinds[kind] = column
        self._kind, self._located, self._apart = kind, self._kinds[kind], b""

    def _conformed(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        """Take the dtype that all gradients have; copy those that are not as kernels need them."""
        kinds = {self.reader.dtype(g) for g in grads if g is not None}
        real = reals(self.dtype) == self.dtype
        self._use(
            kinds.pop() if real and len(kinds) == 1 else self._compute if real else self.dtype
        )
        return self._replaced(grads, self._located.read(grads))

    def _replaced(self, grads: tuple[Any, ...], places: Iterable[int]) -> tuple[Any, ...]:
        copies = list(grads)
        for k in places:
            copies[k] = self.reader.conform(grads[k], k, self._kind)
        if self._located.read(tuple(copies)):
            raise RuntimeError("a copy of a gradient is not as wanted")
        return tuple(copies)

    def prepare(
        self, values: Mapping[str, Values], seed: int | None, count: int | None, keep: Any
    ) -> Callable[[], None]:
        """Make all ready for a step on the arrays of the batch.

        Parameters
        ----------
        values : mapping of str to mapping
            By the type of the arithmetic, coefficients of the rule and the stages by name: numbers,
            or one for each leaf.
        seed : int or None
            That of the step where slots are rounded by chance.
        count : int or None
            Number of threads, if it is not to be the usual one.
        keep : object
            What `take_up` gave.

        Returns
        -------
        callable
            Carries out the step.
        """
        numbers = part(values[self._compute], self.places)
        if self._rule.ratio is not None:
            found = ratio(self._rule, self._sizes, self._totals(numbers, count, keep), numbers, np)
            numbers |= {name: np.asarray(value, np.float64) for name, value in found.items()}
        recipe = self._recipes.find(tuple(numbers), self._kind, seed is not None)
        job = _Job.from_buffer_copy(self._job)
        table: Any = self._numbers([numbers[name] for name in recipe.names], job)
        if recipe.chance and seed is not None:
            job[CELLS["seed"]] = seed

        def sweep() -> None:
            self._run(recipe.kernel, job, count, (keep, table, self))
            self.reader.wrote(self._columns["p"])

        return sweep

    def _numbers(self, row: list[Any], job: Any) -> Any:
        """Make the table of coefficients, with one row for all tensors or one for each."""
        if not any(isinstance(value, np.ndarray) for value in row):
            table: Any = (ctypes.c_double * len(row))(*row)
            job[CELLS["coefficients"]] = ctypes.addressof(table)
            return table
        full = [np.broadcast_to(np.asarray(v, np.float64), self._rows.shape) for v in row]
        table = np.stack(full, axis=1)
        job[CELLS["coefficients"]] = address(table)
        job[CELLS["rows"]] = address(self._rows)
        return table

    def totals(self, values: Mapping[str, Values], count: int | None, keep: Any) -> Any:
        """Give the totals of each tensor, as a table with a row for each.

        Parameters
        ----------
        values : mapping of str to mapping
            As for `prepare`.
        count : int or None
            Number of threads, if it is not to be the usual one.
        keep : object
            What `take_up` gave.
        """
        numbers = part(values[self._compute], self.places)
        return np.stack(self._totals(numbers, count, keep), axis=1)

    def _totals(self, numbers: Values, count: int | None, keep: Any) -> list[Any]:
        """Give the totals of all tensors, one after another, from a pass of their own."""
        recipe = self._recipes.measure(tuple(numbers), self._kind)
        job = _Job.from_buffer_copy(self._job)
        table = self._numbers([numbers[name] for name in recipe.names], job)
        chunks, tensors = len(self._chunks.table), len(self._rows)
        norms = len(self._rule.norms)
        sums = np.zeros((chunks, norms + len(self._rule.sums)))
        job[CELLS["sums"]] = address(sums)
        self._run(recipe.kernel, job, count, (keep, table, sums, self))
        # bincount adds one after another, as the specification does.
        place = self._chunks.table[:, 0]
        columns = [np.bincount(place, column, tensors) for column in sums.T]
        return [*map(np.sqrt, columns[:norms]), *columns[norms:]]

    def squares(self, count: int | None, keep: Any) -> tuple[Any, int]:
        """Give the sum of squares of each gradient, and how many entries are not finite.

        Parameters
        ----------
        count : int or None
            Number of threads, if it is not to be the usual one.
        keep : object
            What `take_up` gave.

        Returns
        -------
        sums : numpy.ndarray
            By `arrayoptim.numerics.sums.sum_of_squares`; 0 for None.
        nonfinite : int
            Infinite or NaN entries of all gradients together.
        """
        chunks = len(self._chunks.table)
        sums, counts = np.zeros(chunks), np.zeros(chunks, np.int64)
        job = _Job.from_buffer_copy(self._job)
        job[CELLS["sums"]], job[CELLS["counts"]] = address(sums), address(counts)
        self._run(_squares(reals(self._kind)), job, count, (keep, sums, counts, self))
        # bincount adds one after another, as the specification does.
        tensors = self._chunks.table[:, 0]
        return np.bincount(tensors, sums, len(self._rows)), int(counts.sum())

    def _run(self, run: Kernel, job: Any, count: int | None, keep: Any) -> None:
        if self.elements <= PARALLEL:
            threads.run(run, job, keep, 1)
            return
        count = threads.available() if count is None else count
        threads.run(run, job, keep, min(count, self._chunks.tasks))


@cache
def _squares(dtype: str) -> Kernel:
    return kernel(squares_program(dtype))
