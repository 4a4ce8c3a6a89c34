"""Per-step scalars computed on the device, from step counts that are there too.

One thread per tensor reads the step count and other state of the tensor, computes its scalars in
double precision into its row of the table that the sweep reads, and advances the state. So launches
that are replayed unchanged, as in a CUDA graph, take one step after another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ...arrays.libraries import backend_of
from ...numerics.formulas import Cell, Number, UnwritableError, number
from ..steps import Counting
from .arrays import Library
from .device import Device, Launch, Launches, Table, launches
from .formulas import FormulaWriter, literal
from .prelude import THREADS
from .program import CODES, EXPONENT, TYPES, Program, named
from .tables import addresses

__all__ = ["Counter", "counter_program"]

Kinds = tuple[str, ...]
"""The dtype of each cell's 0-d array; empty for a plain number, a kernel argument."""

_MODULO = """
// As Python's: with the sign of the second.
FUNCTION double modulo(double x, double y) {
    const double rest = fmod(x, y);
    return rest != 0.0 && (rest < 0.0) != (y < 0.0) ? rest + y : rest;
}
"""


def counter_program(
    rows: Sequence[Sequence[Number]],
    names: Sequence[str],
    after: Mapping[str, Number],
    cells: Sequence[Cell],
    kinds: Kinds,
) -> Program:
    """Write the kernel that computes per-step scalars and advances the state.

    Parameters
    ----------
    rows : sequence of sequence of Number
        The scalars of a tensor, in the order of its row; one sequence for each variant.
    names : sequence of str
        Names of a tensor's state, in the order of its addresses.
    after : mapping of str to Number
        The state after the step.
    cells : sequence of Cell
        Further inputs of the formulas.
    kinds : tuple of str
        The dtypes of the cells.

    Returns
    -------
    Program
        The kernel.
    """
    given = ["double" if not kind else f"const {TYPES[kind]} *" for kind in kinds]
    arguments = "".join(f", {kind} i_{k}" for k, kind in enumerate(given))
    state = [f"held[{len(names)} * t + {k}]" for k in range(len(names))]
    leaf = partial(_leaf, list(names), list(cells), kinds)
    writer = FormulaWriter(leaf, plain=("number", "state"))
    lines = [
        "const whole t = base + u;",
        "if (t >= count || !gradients[leaves[t]]) continue;",
        f"double *row = table + 1 + {len(rows[0])} * t;",
        *(f"const double s_{k} = *(const double *){at};" for k, at in enumerate(state)),
        *writer.computed(after.values()),
    ]
    for k, row in enumerate(rows):
        own = writer if len(rows) == 1 else writer.branch()
        body = [*own.computed(row), *(f"row[{j}] = {own.texts[x.key]};" for j, x in enumerate(row))]
        inner = [f"    {line}" for line in body]
        lines += body if len(rows) == 1 else [f"if (variants[t] == {k}) {{", *inner, "}"]
    lines += [
        f"*(double *){at} = {writer.texts[after[name].key]};"
        for at, name in zip(state, names, strict=True)
    ]
    text = [
        "KERNEL @NAME@(",
        "    const int *leaves, const whole *gradients, const whole *held, const int *variants,",
        f"    double *table, whole count{arguments}) {{",
        "    const whole base = (whole)THREADS * blockIdx.x;",
        "    EACH_THREAD(u) {",
        *(f"        {line}" for line in lines),
        "    }",
        "}",
    ]
    return named("counted", [_MODULO, "\n".join(text)])


class Counter:
    """The per-step scalars of a batch's tensors, computed in device memory.

    Parameters
    ----------
    library : Library
        The library of the tensors.
    device : Device
        Their device.
    ordinals : sequence of int
        Their indices in the tree.
    """

    def __init__(self, library: Library, device: Device, ordinals: Sequence[int]) -> None:
        self._library, self._device, self._ordinals = library, device, ordinals
        self._counting: Counting | None = None
        self._held: Table | None = None
        self._made: dict[Any, _Made] = {}

    def launched(
        self,
        columns: Mapping[str, Any],
        counting: Counting,
        addresses: tuple[int, int],
        later: bool,
    ) -> tuple[int, Launches]:
        """Prepare the launch that computes the scalars of a step.

        Parameters
        ----------
        columns : mapping of str to object
            The scalars by name: formulas or numbers, or an array with one for each tensor.
        counting : Counting
            The state that they are computed from.
        addresses : tuple of int
            Addresses of two tables: the tensors' indices among the gradients; the gradients.
        later : bool
            Whether a CUDA graph is being captured, so that nothing can be compiled or copied now.

        Returns
        -------
        int
            Address of the table of scalars: the row length, then one row per tensor.
        Launches
            The launch.

        Raises
        ------
        RuntimeError
            If something is missing that cannot be made during a capture.
        """
        if counting is not self._counting:
            self._require(not later)
            self._made, self._counting = {}, counting
        cells = counting.cells
        kinds = tuple(_kind(cell.value) for cell in cells)
        key = tuple(columns), kinds
        if key not in self._made:
            self._require(not later)
            self._made[key] = self._make(columns, counting, kinds)
        made, held = self._made[key], self._addresses(counting, later)
        count = len(self._ordinals)
        inputs = [
            self._library.address(cell.value) if kind else float(cell.value)
            for cell, kind in zip(cells, kinds, strict=True)
        ]
        leaves, gradients = addresses
        table = made.table.address
        arguments = (leaves, gradients, held, made.variants.address, table, count, *inputs)
        return table, launches(made.launch, -(-count // THREADS), arguments)

    def _require(self, ready: bool) -> None:
        if not ready:
            raise RuntimeError(
                "a CUDA graph is being captured, and what the step needs is not ready: take a step "
                "with these hyperparameters before the graph"
            )

    def _make(self, columns: Mapping[str, Any], counting: Counting, kinds: Kinds) -> _Made:
        count = len(self._ordinals)
        full = [np.broadcast_to(np.asarray(x, object), count) for x in columns.values()]
        whole = list(zip(*full, strict=True))
        kinds_of = [tuple(x.key if type(x) is Number else x for x in row) for row in whole]
        found = dict(zip(kinds_of, whole, strict=True))
        order = {kind: k for k, kind in enumerate(found)}
        variants = [order[kind] for kind in kinds_of]
        rows = [[number(x) for x in row] for row in found.values()]
        program = counter_program(rows, counting.names, counting.after, counting.cells, kinds)
        table = np.zeros(1 + count * len(columns))
        table[0] = len(columns)
        made = self._device.table
        return _Made(self._device.kernel(program), made(table), made(np.array(variants, np.int32)))

    def _addresses(self, counting: Counting, later: bool) -> int:
        """Return the address of the table of state addresses."""
        if self._held is None:
            self._require(not later)
            rows = [counting.held[k] for k in self._ordinals]
            at = addresses(self._library, [x for row in rows for x in row])
            self._held = self._device.table(at)
        return self._held.address


@dataclass
class _Made:
    """What computes the scalars of some names."""

    launch: Launch
    table: Table
    variants: Table


def _leaf(names: list[str], cells: list[Cell], kinds: Kinds, value: Number) -> str:
    """Write an input of a formula."""
    if value.op == "number":
        return literal(value)
    if value.op == "state":
        return f"s_{names.index(value.name)}"
    assert value.cell is not None
    k = cells.index(value.cell)
    return f"(double)widened(*i_{k})" if kinds[k] else f"i_{k}"


def _kind(value: Any) -> str:
    if isinstance(value, float):
        return ""
    found = backend_of(value).dtype(value)
    if found not in TYPES or found in CODES or found == EXPONENT:
        raise UnwritableError(f"found a number of {found}, wanted one of float32 or float64")
    return found
