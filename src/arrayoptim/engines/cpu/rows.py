"""Steps of single rows of an array: kernels treat each row as a tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._typing import Array
from ...arrays.backend import COMPLEX, COMPUTE, ITEMSIZE, reals
from ...arrays.memory import Stretches
from ...arrays.rows import Rows
from ...numerics.rounding import GROUP, NOISE
from ...rules.rule import Rule
from ...rules.stages import SLOTS
from ..rowmajor import by_rows
from .jobs import Job
from .recipes import EXPONENTS, Recipe, Recipes
from .serving import reader_of
from .tables import CHUNK, Chunks, IntTable, address, cut

__all__ = ["RowPlan"]


class RowPlan:
    """Steps of rows of one array.

    Parameters
    ----------
    rule : Rule
        An elementwise rule.
    param : array
        A parameter accepted by `refusal`.
    slots : mapping of str to array
        Its slots.
    occupied : Stretches
        The memory written by the whole step. Rows that overlap it are copied.
    threads : int, optional
        Number of threads.

    Attributes
    ----------
    compute : str
        The compute dtype.

    Raises
    ------
    ValueError
        If rows are not contiguous in memory.
    """

    def __init__(
        self,
        rule: Rule,
        param: Array,
        slots: Mapping[str, Array],
        occupied: Stretches,
        threads: int | None,
    ) -> None:
        kind = reader_of(param)
        assert kind is not None
        if not kind.rowwise(param):
            raise ValueError("its rows are not contiguous in memory")
        more = (*SLOTS.values(), *(name + EXPONENTS for name in rule.slots))
        names = ("p", *rule.slots, *(name for name in more if name in slots))
        arrays = {"p": param, **slots}
        self._arrays, self._shape = [arrays[name] for name in names], tuple(param.shape)
        self._dtypes = {name: kind.dtype(arrays[name]) for name in names}
        self._reader, self._occupied, self._threads = kind, occupied, threads
        self._recipes = Recipes(rule, self._dtypes)
        self.compute = COMPUTE[self._dtypes["p"]]
        self._parts = 2 if self._dtypes["p"] in COMPLEX else 1
        self._own = kind((param,))
        pairs = zip(self._arrays, self._dtypes.values(), strict=True)
        found = [self._own.place(x, d, True) for x, d in pairs]
        if None in found:
            raise ValueError("an array of its state cannot be written where it is")
        self._bases = np.array(found, np.int64)
        # Bytes from one row's entry to the next; exponents have one per group.
        self._steps = np.array([self._parts * ITEMSIZE[reals(d)] for d in self._dtypes.values()])
        self._shares = np.array([GROUP if n.endswith(EXPONENTS) else 1 for n in self._dtypes])
        self._job: Job | None = None
        self._cut: tuple[Any, Chunks] | None = None
        self._held: tuple[Any, ...] = ()
        size = self._parts * math.prod(param.shape) * ITEMSIZE[reals(self._dtypes["p"])]
        occupied.add(self._bases[:1], self._bases[:1] + size)
        self._start = int(self._bases[0])

    def fits(self, param: Array) -> bool:
        """Whether this is the parameter, at the same address."""
        if reader_of(param) is not self._reader or tuple(param.shape) != self._shape:
            return False
        found = self._own.place(param, self._dtypes["p"], True)
        return found == self._start and self._reader.rowwise(param)

    def prepare(self, gradient: Rows, numbers: Mapping[str, float]) -> Any:
        """Prepare a step, and return a function that runs it, or the rest of it.

        Parameters
        ----------
        gradient : Rows
            Unique rows.
        numbers : mapping of str to float
            The numbers of the step.
        """
        count, width = int(gradient.rows.shape[0]), gradient.width
        if not count * width:
            return lambda: None
        rows, at, kind = self._readable(gradient)
        numbers_at = np.asarray(gradient.backend.host_view(gradient.indices), np.int64)
        pointers = self._bases + numbers_at[:, None] * (width * self._steps // self._shares)
        step = self._parts * width * ITEMSIZE[reals(kind)]
        gradients = at + step * np.arange(count, dtype=np.int64)
        recipe = self._recipes.find(tuple(numbers), kind, False)
        recipe.pack(recipe.row, 0, *recipe.pick(numbers))
        job = self._opened(count, self._parts * width, recipe, pointers, gradients)
        self._held = rows, numbers_at, pointers, gradients, recipe, gradient

        def run() -> None:
            job.run(self._threads)
            self._own.wrote(self._arrays[:1])

        return run

    def _readable(self, gradient: Rows) -> tuple[Array, int, str]:
        """Return rows that a kernel can read, their address, and their dtype."""
        rows, own = gradient.rows, self._dtypes["p"]
        kind = own if self._parts == 2 else self._reader.dtype(rows)
        at = self._own.place(rows, kind, False) if self._reader.rowwise(rows) else None
        size = math.prod(rows.shape) * self._parts * ITEMSIZE[reals(kind)]
        ends = np.array([(at or 0) + size])
        if at is None or len(self._occupied.touched(np.array([at]), ends)):
            rows = by_rows(rows, kind)
            at = self._own.place(rows, kind, False)
        assert at is not None
        return rows, at, kind

    def _opened(
        self, count: int, width: int, recipe: Recipe, pointers: IntTable, gradients: IntTable
    ) -> Job:
        """Return the job of a step."""
        if self._cut is None or self._cut[0] != (count, width):
            self._one = np.zeros(count, np.int64)
            chunks = cut(np.full(count, width), CHUNK)
            self._cut, self._job = ((count, width), chunks), None
        if self._job is None:
            known = {"rows": address(self._one), "leaves": address(self._one)}
            known["noise"] = address(NOISE)
            self._job = Job(count * width, self._cut[1], known)
        job = self._job
        job["pointers"], job["gradients"] = address(pointers), address(gradients)
        job["coefficients"], job["kernel"] = recipe.address, recipe.kernels[0]
        job.again()
        return job
