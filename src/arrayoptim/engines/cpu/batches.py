"""Batches of arrays with equal dtypes, swept by one kernel call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from struct import error
from typing import Any

import numpy as np

from ...arrays.backend import COMPUTE, reals
from ...arrays.memory import Stretches
from ...numerics.rounding import NOISE
from ...numerics.sums import BLOCK
from ...rules.rule import Rule
from ..steps import OWN
from ..totals import part, ratio
from .addresses import Reader
from .array_checks import Look, Take
from .columns import Column
from .jobs import PARALLEL, Job
from .loading import loader
from .native import code_address
from .recipes import EXPONENTS, Recipe, Recipes
from .source import squares_program
from .tables import CHUNK, IntTable, address, cut

Values = Mapping[str, Any]


class Batch:
    """Leaves of a tree, with the tables that kernels traverse.

    Parameters
    ----------
    rule : Rule
        The update rule.
    reader : Reader
        Knows the parameters' shapes and memory order.
    dtypes : mapping of str to str
        The dtype of each slot, and that of the parameters as ``p``.
    columns : mapping of str to tuple of array
        For each of these, the arrays of all leaves.
    places : tuple of list of int and numpy.ndarray
        Their indices among the plan's parameters, and among all.
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
        self.reader, self.dtype = reader, dtypes["p"]
        self._all = take is tuple
        self._counted = columns["p"] if reader.counts else ()
        self.places, self._among_all = places
        self._columns, self._compute, self._rule = columns, COMPUTE[self.dtype], rule
        self._recipes = Recipes(rule, {name: dtypes[name] for name in columns})
        parts = 1 if reals(self.dtype) == self.dtype else 2
        sizes = [parts * math.prod(shape) for shape in reader.shapes]
        self.elements = sum(sizes)
        self._wide = self.elements > PARALLEL
        self._sizes = np.asarray(sizes, np.int64)
        count = len(sizes)
        self._pointers = np.zeros((count, len(columns)), np.int64)
        found = np.zeros((count, 1), np.int64)
        for k, (name, arrays) in enumerate(columns.items()):
            other = name.endswith(EXPONENTS) or name in rule.apart
            own = type(reader)(arrays) if other else reader
            if Column(own, dtypes[name], self._pointers, k, True, found).read(arrays):
                raise ValueError(f"an array of {name} is not one that `refusal` accepts")
        self.arrays = Look(reader, self.dtype, self.places, take, self._sizes, self._pointers)
        self._rows, self._row = np.arange(count), np.zeros(count, np.int64)
        self._each, self._one = address(self._rows), address(self._row)
        self._jobs, self._reading = self._new_jobs(), self._new_job(BLOCK)
        self._summed = self._reading.chunks.table[:, 0]
        chunks = len(self._summed)
        self._sums, self._counts = np.zeros(chunks), np.zeros(chunks, np.int64)
        self._places = address(self._sums), address(self._counts)
        self._whole = np.array_equal(self._summed, np.arange(count))
        self._read = ""
        self._chance = False
        self._ready: Any = None

    def _new_jobs(self) -> list[Job]:
        """Return the jobs of a step, in order."""
        return [self._new_job(CHUNK)]

    def _new_job(self, length: int) -> Job:
        return Job(self.elements, cut(self._sizes.tolist(), length), self._known())

    def _known(self) -> dict[str, int]:
        """Return the cells that all jobs share."""
        return {
            "gradients": address(self.arrays.gradients),
            "pointers": address(self._pointers),
            "rows": self._one,
            "leaves": address(self._among_all),
            "noise": address(NOISE),
        }

    def look(
        self,
        params: tuple[Any, ...],
        grads: tuple[Any, ...],
        paths: Sequence[str],
        occupied: Stretches,
        count: int | None,
    ) -> bool:
        """Check that the parameters have not moved, and record the gradients' addresses.

        Parameters
        ----------
        params, grads : tuple of array
            All parameters and gradients of the plan; None for a gradient is allowed.
        paths : sequence of str
            The leaves' names in messages.
        occupied : Stretches
            The memory that the step writes. A gradient that overlaps it is copied.
        count : int or None
            Number of threads; the default if None.

        Returns
        -------
        bool
            False if a parameter has moved, changed, or become read-only.
        """
        if self.quick(params, grads, occupied, count):
            return True
        # Gradients may have another dtype now, which needs another kernel.
        self._ready = None
        return self.arrays.closer(params, grads, occupied, paths)

    def quick(
        self,
        params: tuple[Any, ...],
        grads: tuple[Any, ...],
        occupied: Stretches,
        count: int | None,
    ) -> bool:
        """Do the same in machine code; False if an array is not as expected."""
        pool = self.rouses(count) if self._wide else 0
        return self.arrays.quick(params, grads, occupied, pool)

    def rouses(self, count: int | None) -> int:
        """Return the address of the pool to wake before a step starts, or 0."""
        return self._jobs[0].rouses(count)

    def load(self, values: Mapping[str, Values], seed: int | None, count: int | None) -> None:
        """Prepare a step on the arrays that were checked.

        Parameters
        ----------
        values : mapping of str to mapping
            By the compute dtype, coefficients of the rule and the stages by name: numbers,
            or one for each leaf.
        seed : int or None
            The seed of the step, if slots are rounded stochastically.
        count : int or None
            Number of threads; the default if None.
        """
        given, ready = values[self._compute], self._ready
        first, *others = self._jobs
        if ready is not None and self._chance == (seed is not None) and ready(given):
            if seed is not None:
                first["seed"] = seed
            for job in others:
                job.again()
            return
        self._ready, numbers = None, self._of_this_batch(given)
        if self._rule.ratio is not None and self._rule.measured[0] not in numbers:
            numbers = _with_arrays(numbers)
            found = ratio(self._rule, self._sizes, self._totals(numbers, count), numbers, np)
            numbers = {**numbers, **{k: np.asarray(v, np.float64) for k, v in found.items()}}
        recipe = self._recipes.find(tuple(numbers), self.arrays.kind, seed is not None)
        for job, kernel in zip(self._jobs, recipe.kernels, strict=True):
            job["kernel"] = kernel
            job.again()
        shared = self._write(numbers, recipe, self._jobs)
        if seed is not None:
            first["seed"] = seed
        if shared and self._rule.ratio is None:
            self._chance = seed is not None
            self._names = tuple(given)
            self._ready = loader(self._names, recipe.names, recipe.row, first.record)

    def run(self, count: int | None) -> None:
        """Run the loaded step, or the rest of it, and release copies of gradients.

        Parameters
        ----------
        count : int or None
            Number of threads; the default if None.
        """
        for job in self._jobs:
            job.run(count)
        if self._counted:
            self.reader.wrote(self._counted)
        self.arrays.copies = ()

    def _of_this_batch(self, numbers: Values) -> Values:
        """Return the numbers; of per-leaf numbers, this batch's entries."""
        if self._all:
            return numbers
        return part(_with_arrays(numbers), self.places)

    def _write(self, numbers: Values, recipe: Recipe, jobs: Sequence[Job]) -> bool:
        """Write the table of coefficients, and return whether one row serves all tensors."""
        row = recipe.pick(numbers)
        try:
            recipe.pack(recipe.row, 0, *row)
        except (error, TypeError):
            self._table = np.empty((len(self._rows), len(row)))
            for k, value in enumerate(row):
                self._table[:, k] = getattr(value, "array", value)
            place, rows, shared = address(self._table), self._each, False
        else:
            place, rows, shared = recipe.address, self._one, True
        for job in jobs:
            job["coefficients"], job["rows"] = place, rows
        return shared

    def totals(self, values: Mapping[str, Values], count: int | None) -> Any:
        """Return the totals of each tensor, as a table with a row for each.

        Parameters
        ----------
        values : mapping of str to mapping
            As for `load`.
        count : int or None
            Number of threads; the default if None.
        """
        return np.stack(self._totals(self._of_this_batch(values[self._compute]), count), axis=1)

    def _totals(self, numbers: Values, count: int | None) -> list[Any]:
        """Return the totals of all tensors, in order, from a separate pass."""
        self._read = ""
        recipe = self._recipes.measure(tuple(numbers), self.arrays.kind)
        norms = len(self._rule.norms)
        sums = np.zeros((len(self._summed), norms + len(self._rule.sums)))
        self._write(numbers, recipe, [self._reading])
        self._reading["sums"], self._reading["kernel"] = address(sums), recipe.kernels[0]
        self._chance = False
        self._reading.again()
        self._reading.run(count)
        # bincount adds in order, as the specification does.
        columns = [np.bincount(self._summed, column, len(self._rows)) for column in sums.T]
        return [*map(np.sqrt, columns[:norms]), *columns[norms:]]

    def squares(self, count: int | None) -> Any:
        """Return the sum of squares of each gradient as an array; 0 for None.

        Parameters
        ----------
        count : int or None
            Number of threads; the default if None.
        """
        if self._read != self.arrays.kind:
            self._reading["sums"], self._reading["counts"] = self._places
            self._reading["kernel"] = _squares(reals(self.arrays.kind))
            self._read = self.arrays.kind
        self._reading.again()
        self._reading.run(count)
        if self._whole:
            return self._sums
        # bincount adds in order, as the specification does.
        return np.bincount(self._summed, self._sums, len(self._rows))

    def nonfinite(self) -> int:
        """Return the number of infinite or NaN gradient entries found while squaring them."""
        return int(self._counts.sum())


@cache
def _squares(dtype: str) -> int:
    return code_address(squares_program(dtype))


def _with_arrays(numbers: Values) -> dict[str, Any]:
    """Return numbers, with per-parameter ones as arrays."""
    return {k: np.asarray(v) if isinstance(v, OWN) else v for k, v in numbers.items()}
