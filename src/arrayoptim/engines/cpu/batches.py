"""Arrays of the same dtypes, which one call of one kernel sweeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from struct import error
from typing import Any

import numpy as np

from ...arrays.backend import COMPUTE
from ...arrays.memory import Addresses, Stretches
from ...numerics.rounding import NOISE
from ...rules.rule import Rule
from ..totals import part, ratio
from . import threads
from .addresses import ITEMSIZE, Reader, reals
from .calls import bound, calls
from .columns import Column
from .loading import loader
from .looking import Look
from .native import code_address
from .pool import run_program
from .recipes import EXPONENTS, Recipe, Recipes
from .source import CELLS, JOB, squares_program
from .tables import IntTable, address, cells, cut

PARALLEL = 100_000
"""Elements from which on more threads than one are faster."""

BRIEF = 8192
"""Elements up to which letting in another thread of Python would take longer than the step."""

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
        Returns this batch's part of a sequence over all leaves.
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
        self.reader, self._take, self.dtype = reader, take, dtypes["p"]
        self._all = take is tuple
        self.places, self._among_all = places
        self._columns, self._compute, self._rule = columns, COMPUTE[self.dtype], rule
        self._recipes = Recipes(rule, {name: dtypes[name] for name in columns})
        parts = 1 if reals(self.dtype) == self.dtype else 2
        sizes = [parts * math.prod(shape) for shape in reader.shapes]
        self.elements: int = sum(sizes)
        self._sizes = np.asarray(sizes, np.int64)
        self._chunks, count = cut(sizes), len(sizes)
        self.chunks = len(self._chunks.table)
        self._whole = np.array_equal(self._chunks.table[:, 0], np.arange(count))
        self._pointers = np.zeros((count, len(columns)), np.int64)
        self._gradients, self._found = np.zeros((2, count, 1), np.int64)
        for k, (name, arrays) in enumerate(columns.items()):
            own = type(reader)(arrays) if name.endswith(EXPONENTS) else reader
            if Column(own, dtypes[name], self._pointers, k, True, self._found).read(arrays):
                raise ValueError(f"an array of {name} is not one that `refusal` accepts")
        self._params = Column(reader, self.dtype, self._found, 0, True, self._pointers)
        index = np.asarray(self.places, np.int64)
        tables = index, self._sizes, self._pointers, self._gradients
        self._look = Look(reader, self.dtype, *tables)
        self._kinds: dict[str, Column] = {}
        self._use(self.dtype)
        self._rows, self._row = np.arange(count), np.zeros(count, np.int64)
        self._each, self._one = address(self._rows), address(self._row)
        self._job, self._reading = self._new_job(), self._new_job()
        self._carry_out, self._read_all = (
            bound(run_program(), job) for job in (self._job, self._reading)
        )
        self._sums, self._counts = np.zeros(self.chunks), np.zeros(self.chunks, np.int64)
        self._taken: Any = None
        self._ready: Any = None

    def _new_job(self) -> Any:
        known = dict.fromkeys(JOB, 0) | {
            "tasks": self._chunks.tasks,
            "bounds": address(self._chunks.bounds),
            "chunks": address(self._chunks.table),
            "gradients": address(self._gradients),
            "pointers": address(self._pointers),
            "rows": address(self._row),
            "leaves": address(self._among_all),
            "noise": address(NOISE),
            "calls": calls(),
            "brief": self.elements <= BRIEF and len(self._rows) <= BRIEF // 16,
        }
        return cells(*known.values())

    def stretches(self) -> tuple[Addresses, Addresses]:
        """Return the first address of each parameter, and the one after its last.

        Returns
        -------
        (numpy.ndarray, numpy.ndarray)
            The addresses.
        """
        starts = self._pointers[:, 0]
        return starts, starts + self._sizes * ITEMSIZE[reals(self.dtype)]

    def fits(self, params: Sequence[Any]) -> bool:
        """Whether these are the parameters of this batch, where they were in memory.

        Parameters
        ----------
        params : sequence of array
            All parameters of the plan.

        Returns
        -------
        bool
            False where an array has another address, shape, dtype or order, or was locked.
        """
        mine = self._take(params)
        return not self._params.read(mine) and self._params.same == len(mine)

    def look(
        self,
        params: Sequence[Any],
        grads: Sequence[Any],
        paths: Sequence[str],
        occupied: Stretches,
        count: int | None,
    ) -> bool:
        """Look whether the parameters are where they were, and note where the gradients are.

        Parameters
        ----------
        params, grads : tuple of array
            All parameters and gradients of the plan; None for a gradient is allowed.
        paths : sequence of str
            What messages call the leaves of the tree.
        occupied : Stretches
            The memory that the step writes. A gradient that reaches into it is copied.
        count : int or None
            Number of threads, if it is not to be the usual one.

        Returns
        -------
        bool
            False as by `fits`.
        """
        if occupied.starts is not self._look.starts:
            self._look.reach(occupied)
        if self.elements > PARALLEL and count != 1:
            self._look.rouse(threads.pool().address)
        if not self._look.call(params, grads):
            return True
        if not self.fits(params):
            return False
        self._taken = self._take_up(self._take(grads), paths, occupied)
        return True

    def drop(self) -> None:
        """Forget the gradients that were copied."""
        self._taken = None

    def _take_up(
        self, grads: tuple[Any, ...], paths: Sequence[str], occupied: Stretches
    ) -> tuple[Any, ...]:
        """Note where gradients are of which some may have to be copied."""
        refused = self._located.read(grads)
        if refused:
            for k in refused:
                self.reader.check(grads[k], k, self.dtype, paths[self.places[k]])
            grads = self._conformed(grads)
        starts = self._gradients[:, 0]
        ends = starts + self._sizes * ITEMSIZE[reals(self._kind)]
        return self._replaced(grads, occupied.touched(starts, ends))

    def _use(self, kind: str) -> None:
        """Take gradients of that dtype from now on."""
        if kind not in self._kinds:
            column = Column(self.reader, kind, self._gradients, 0, False, self._pointers)
            self._kinds[kind] = column
        self._kind, self._located = kind, self._kinds[kind]
        self._ready = None
        self._look.expect(kind)

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

    def load(self, values: Mapping[str, Values], seed: int | None, count: int | None) -> None:
        """Make all ready for a step on the arrays that were looked at.

        Parameters
        ----------
        values : mapping of str to mapping
            By the type of the arithmetic, coefficients of the rule and the stages by name: numbers,
            or one for each leaf.
        seed : int or None
            That of the step where slots are rounded by chance.
        count : int or None
            Number of threads, if it is not to be the usual one.
        """
        given, job, ready = values[self._compute], self._job, self._ready
        if ready is not None and seed is None and ready(given):
            return
        self._ready, numbers = None, self._own(given)
        if self._rule.ratio is not None:
            numbers = {k: np.asarray(v) if isinstance(v, list) else v for k, v in numbers.items()}
            found = ratio(self._rule, self._sizes, self._totals(numbers, count), numbers, np)
            numbers = {**numbers, **{k: np.asarray(v, np.float64) for k, v in found.items()}}
        recipe = self._recipes.find(tuple(numbers), self._kind, seed is not None)
        self._write(numbers, recipe, job)
        job[CELLS["kernel"]] = recipe.kernel
        if recipe.chance and seed is not None:
            job[CELLS["seed"]] = seed
        job[CELLS["claimed"]] = job[CELLS["behind"]] = 0
        if seed is None and self._rule.ratio is None and job[CELLS["rows"]] == self._one:
            self._names = tuple(given)
            self._ready = loader(self._names, recipe.names, recipe.row, job)

    def run(self, count: int | None) -> None:
        """Carry out the step that was loaded, as far as it has not been.

        Parameters
        ----------
        count : int or None
            Number of threads, if it is not to be the usual one.
        """
        self._summon(self._job, count)
        self._carry_out()
        self.reader.wrote(self._columns["p"])

    def _own(self, numbers: Values) -> Values:
        """Return the numbers, arrays of the batch's own where each leaf has one."""
        if self._all:
            return numbers
        arrays = {k: np.asarray(v) if isinstance(v, list) else v for k, v in numbers.items()}
        return part(arrays, self.places)

    def _write(self, numbers: Values, recipe: Recipe, job: Any) -> None:
        """Write the table of coefficients, with one row for all tensors or one for each."""
        row = recipe.pick(numbers)
        try:
            recipe.pack(recipe.row, 0, *row)
            job[CELLS["coefficients"]], job[CELLS["rows"]] = recipe.address, self._one
        except (error, TypeError):
            full = [np.broadcast_to(np.asarray(v, np.float64), self._rows.shape) for v in row]
            self._table = np.stack(full, axis=1)
            job[CELLS["coefficients"]], job[CELLS["rows"]] = address(self._table), self._each

    def totals(self, values: Mapping[str, Values], count: int | None) -> Any:
        """Return the totals of each tensor, as a table with a row for each.

        Parameters
        ----------
        values : mapping of str to mapping
            As for `load`.
        count : int or None
            Number of threads, if it is not to be the usual one.
        """
        return np.stack(self._totals(self._own(values[self._compute]), count), axis=1)

    def _totals(self, numbers: Values, count: int | None) -> list[Any]:
        """Return the totals of all tensors, one after another, from a pass of their own."""
        recipe = self._recipes.measure(tuple(numbers), self._kind)
        norms = len(self._rule.norms)
        sums = np.zeros((self.chunks, norms + len(self._rule.sums)))
        self._write(numbers, recipe, self._reading)
        self._read(recipe.kernel, sums, count)
        # bincount adds one after another, as the specification does.
        place = self._chunks.table[:, 0]
        columns = [np.bincount(place, column, len(self._rows)) for column in sums.T]
        return [*map(np.sqrt, columns[:norms]), *columns[norms:]]

    def squares(self, count: int | None) -> tuple[Any, int]:
        """Return the sum of squares of each gradient, and how many entries are not finite.

        Parameters
        ----------
        count : int or None
            Number of threads, if it is not to be the usual one.

        Returns
        -------
        sums : numpy.ndarray
            By `arrayoptim.numerics.sums.sum_of_squares`; 0 for None.
        nonfinite : int
            Infinite or NaN entries of all gradients together.
        """
        self._read(_squares(reals(self._kind)), self._sums, count)
        nonfinite = int(self._counts.sum())
        if self._whole:
            return self._sums, nonfinite
        # bincount adds one after another, as the specification does.
        tensors = self._chunks.table[:, 0]
        return np.bincount(tensors, self._sums, len(self._rows)), nonfinite

    def _read(self, program: int, sums: Any, count: int | None) -> None:
        """Carry out a pass that only reads, with sums for each chunk."""
        job = self._reading
        job[CELLS["claimed"]] = job[CELLS["behind"]] = 0
        job[CELLS["kernel"]] = program
        job[CELLS["sums"]], job[CELLS["counts"]] = address(sums), address(self._counts)
        self._summon(job, count)
        self._read_all()

    def _summon(self, job: Any, count: int | None) -> None:
        if self.elements > PARALLEL:
            count = threads.available() if count is None else count
            threads.summon(job, min(count, self._chunks.tasks))


@cache
def _squares(dtype: str) -> int:
    return code_address(squares_program(dtype))
