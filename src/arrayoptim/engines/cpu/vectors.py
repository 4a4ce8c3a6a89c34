"""Inner products of vectors in memory, as LLVM instructions."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .memory import at, define
from .numbers import DOUBLE, I32, I64, MEMORY, widened

LANES = 8
"""Partial sums of an inner product; the remainder is summed separately."""


def inner(storage: str) -> Any:
    """Make the function that returns the inner product of two vectors, in double precision.

    Parameters
    ----------
    storage : str
        The dtype in memory.

    Returns
    -------
    object
        A function for kernels, of two addresses and the number of elements.
    """

    def loaded(builder: Any, address: Any, index: Any, kind: Any) -> Any:
        place = at(builder, address, index, MEMORY[storage])
        place = builder.bitcast(place, kind.as_pointer())
        value = builder.load(place)
        value.align = 1
        return widened(builder, value, DOUBLE)

    def generate(builder: Any, one: Any, other: Any, count: Any) -> Any:
        # Other arrays, such as the noise table, have no inner products.
        memory = MEMORY[storage]
        row, lanes = ir.VectorType(memory, LANES), ir.VectorType(DOUBLE, LANES)
        with builder.goto_entry_block():
            sums, rest = builder.alloca(lanes), builder.alloca(DOUBLE)
        builder.store(ir.Constant(lanes, [0.0] * LANES), sums)
        builder.store(DOUBLE(0.0), rest)
        whole = builder.and_(count, I64(-LANES))
        for kind, total, start, stop in ((row, sums, I64(0), whole), (memory, rest, whole, count)):
            step = I64(LANES if kind is row else 1)
            with cgutils.for_range_slice(builder, start, stop, step, I64) as (index, _):
                x, y = (loaded(builder, place, index, kind) for place in (one, other))
                term = builder.fmul(x, y)
                builder.store(builder.fadd(builder.load(total), term), total)
        found, width = builder.load(sums), LANES
        while width > 1:
            width //= 2
            low, high = (
                builder.shuffle_vector(found, found, ir.Constant(ir.VectorType(I32, width), half))
                for half in (list(range(width)), list(range(width, 2 * width)))
            )
            found = builder.fadd(low, high)
        return builder.fadd(builder.extract_element(found, I32(0)), builder.load(rest))

    return define(types.float64, (types.int64,) * 3, generate)
