"""Memory access by address, for kernels: cells of a job, and elements of arrays.

Numba alone would check for overlapping arrays at run time, and give up beyond a few of them. Here
every load and store declares which of the kernel's streams it accesses, and that streams do not
overlap: loops vectorise whatever the number of arrays.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...numerics.rounding import GROUP
from ...numerics.sums import LANES, RUN
from .numbers import (
    DOUBLE,
    FLOAT,
    I16,
    I32,
    I64,
    MEMORY,
    by_chance,
    larger,
    narrowed,
    piece,
    random_group,
    random_key,
    widened,
)

__all__ = ["COMPUTE", "JOB_ACCESS", "Stream"]

COMPUTE = {"float32": (types.float32, FLOAT), "float64": (types.float64, DOUBLE)}


def define(result: Any, arguments: tuple[Any, ...], generate: Callable[..., Any]) -> Any:
    """Make an intrinsic from a function of an IR builder and the arguments' IR values."""
    signature = result(*arguments)

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        value = generate(builder, *values)
        return context.get_dummy_value() if value is None else value

    names = ", ".join(f"a{k}" for k in range(len(arguments)))
    # Numba inspects the function's number of arguments.
    form: Callable[..., Any] = eval(
        f"lambda typing, {names}: answer", {"answer": (signature, code)}
    )
    return intrinsic(form)


def at(builder: Any, address: Any, index: Any, kind: Any) -> Any:
    return builder.gep(builder.inttoptr(address, kind.as_pointer()), [index])


def access(kind: Any, result: Any) -> tuple[Any, Any]:
    """Make the functions that read and write one element at an address."""

    def peek(builder: Any, address: Any, index: Any) -> Any:
        value = builder.load(at(builder, address, index, kind))
        return builder.sext(value, I64) if kind in (I16, I32) else value

    def poke(builder: Any, address: Any, index: Any, value: Any) -> None:
        value = builder.trunc(value, kind) if kind in (I16, I32) else value
        builder.store(value, at(builder, address, index, kind))

    place = (types.int64, types.int64)
    return define(result, place, peek), define(types.void, (*place, result), poke)


def _claim(builder: Any, job: Any, cell: Any) -> Any:
    return builder.atomic_rmw("add", at(builder, job, cell, I64), I64(1), "monotonic")


def _fetch_add(builder: Any, job: Any, cell: Any, value: Any) -> Any:
    return builder.atomic_rmw("add", at(builder, job, cell, I64), value, "seq_cst")


def _exchange(builder: Any, job: Any, cell: Any, value: Any) -> Any:
    return builder.atomic_rmw("xchg", at(builder, job, cell, I64), value, "seq_cst")


def _arrived(builder: Any, job: Any, cell: Any) -> Any:
    return builder.load_atomic(at(builder, job, cell, I64), "acquire", 8)


def _call2(builder: Any, function: Any, first: Any, second: Any) -> Any:
    kind = ir.FunctionType(I32, (I64, I64)).as_pointer()
    return builder.sext(builder.call(builder.inttoptr(function, kind), (first, second)), I64)


def _call_kernel(builder: Any, function: Any, void: Any, job: Any, leader: Any) -> None:
    kind = ir.FunctionType(I32, (I64,) * 4).as_pointer()
    builder.call(builder.inttoptr(function, kind), (void, void, job, leader))


def _futex(
    builder: Any, function: Any, number: Any, address: Any, operation: Any, value: Any
) -> None:
    kind = ir.FunctionType(I64, (I64,) * 7).as_pointer()
    none = I64(0)
    arguments = (number, address, operation, value, none, none, none)
    builder.call(builder.inttoptr(function, kind), arguments)


def _pause(builder: Any, _: Any) -> None:
    """Hint to the processor that the thread is spinning, if it has such an instruction."""
    machine = platform.machine()
    if machine in ("x86_64", "AMD64"):
        kind = ir.FunctionType(ir.VoidType(), ())
        builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), kind), ())


def _ask(builder: Any, function: Any, *arguments: Any) -> Any:
    kind = ir.FunctionType(I64, [I64] * len(arguments)).as_pointer()
    return builder.call(builder.inttoptr(function, kind), arguments)


def _relax(builder: Any, address: Any) -> None:
    with builder.if_then(builder.icmp_signed("!=", address, I64(0))):
        kind = ir.FunctionType(I32, ()).as_pointer()
        builder.call(builder.inttoptr(address, kind), ())


_peek, _poke = access(I64, types.int64)
_peek_double, _poke_double = access(DOUBLE, types.float64)
JOB_ACCESS = {
    "peek": _peek,
    "poke": _poke,
    "peek_double": _peek_double,
    "poke_double": _poke_double,
    "peek_int32": access(I32, types.int64)[0],
    "claim": define(types.int64, (types.int64, types.int64), _claim),
    "arrived": define(types.int64, (types.int64, types.int64), _arrived),
    "fetch_add": define(types.int64, (types.int64,) * 3, _fetch_add),
    "exchange": define(types.int64, (types.int64,) * 3, _exchange),
    "call_kernel": define(types.void, (types.int64,) * 4, _call_kernel),
    "futex": define(types.void, (types.int64,) * 5, _futex),
    "pause": define(types.void, (types.int64,), _pause),
    "ask0": define(types.int64, (types.int64,), _ask),
    "ask1": define(types.int64, (types.int64,) * 2, _ask),
    "ask2": define(types.int64, (types.int64,) * 3, _ask),
    "ask4": define(types.int64, (types.int64,) * 5, _ask),
    "call2": define(types.int64, (types.int64,) * 3, _call2),
    "relax": define(types.void, (types.int64,), _relax),
    "random_key": define(types.int64, (types.int64,) * 3, random_key),
    "random_group": define(types.int64, (types.int64,) * 2, random_group),
    "piece": define(types.int64, (types.int64,) * 2, piece),
}


class Stream:
    """Loads and stores of one of a kernel's arrays, in the compute dtype."""

    def __init__(self, position: int, total: int, storage: str, compute: str) -> None:
        self.position, self.total, self.storage = position, total, storage
        self.number, self.kind = COMPUTE[compute]

    def load(self) -> Any:
        def generate(builder: Any, address: Any, index: Any) -> Any:
            place = at(builder, address, index, MEMORY[self.storage])
            return widened(builder, self.tagged(builder, builder.load(place)), self.kind)

        return define(self.number, (types.int64, types.int64), generate)

    def store(self) -> Any:
        def generate(builder: Any, address: Any, index: Any, value: Any) -> None:
            place = at(builder, address, index, MEMORY[self.storage])
            value = narrowed(builder, value, self.storage)
            self.tagged(builder, builder.store(value, place))

        return define(types.void, (types.int64, types.int64, self.number), generate)

    def chance(self) -> Any:
        def generate(builder: Any, address: Any, index: Any, value: Any, bits: Any) -> None:
            place = at(builder, address, index, I16)
            self.tagged(builder, builder.store(by_chance(builder, value, bits), place))

        arguments = (types.int64, types.int64, self.number, types.uint32)
        return define(types.void, arguments, generate)

    def stored(self) -> Any:
        def generate(builder: Any, value: Any) -> Any:
            return widened(builder, narrowed(builder, value, self.storage), self.kind)

        return define(self.number, (self.number,), generate)

    def bits(self) -> Any:
        """Make the function that returns the upper or lower random bits of an element."""

        def generate(builder: Any, address: Any, index: Any, group: Any, half: Any) -> Any:
            word = self.tagged(builder, builder.load(at(builder, address, index, I32)))
            word = builder.add(word, builder.trunc(builder.lshr(group, I64(32)), I32))
            shift = builder.mul(builder.trunc(half, I32), I32(16))
            return builder.and_(builder.lshr(word, shift), I32(0xFFFF))

        return define(types.uint32, (types.int64,) * 4, generate)

    def squares(self) -> Any:
        def generate(builder: Any, address: Any, start: Any, stop: Any) -> Any:
            return _squares(builder, address, start, stop, self.storage)

        return define(types.float64, (types.int64, types.int64, types.int64), generate)

    def add(self, squares: bool = False) -> Any:
        """Make the function that adds a range of elements, or squares, to sums of the kernel."""

        def generate(builder: Any, lanes: Any, address: Any, count: Any) -> None:
            lanes = builder.inttoptr(lanes, _LANES.as_pointer())
            _add(builder, lanes, address, I64(0), count, self.storage, squares)

        return define(types.void, (types.int64,) * 3, generate)

    def raised(self) -> Any:
        """Make the function that computes lane-wise maxima of a range of elements."""

        def generate(builder: Any, lanes: Any, address: Any, count: Any) -> None:
            lanes = builder.inttoptr(lanes, _LANES.as_pointer())
            _add(builder, lanes, address, I64(0), count, self.storage, False, larger)

        return define(types.void, (types.int64,) * 3, generate)

    def joined(self, largest: bool) -> Any:
        """Make the function that adds a double to one in memory, or stores the larger one."""
        join = larger if largest else _sum

        def generate(builder: Any, address: Any, index: Any, value: Any) -> None:
            place = at(builder, address, index, DOUBLE)
            before = self.tagged(builder, builder.load(place))
            self.tagged(builder, builder.store(join(builder, before, value), place))

        return define(types.void, (types.int64, types.int64, types.float64), generate)

    def tagged(self, builder: Any, access: Any) -> Any:
        module = builder.module
        domain = module.add_metadata([ir.MetaDataString(module, "arrayoptim")])
        scopes = [
            module.add_metadata([ir.MetaDataString(module, f"arrayoptim.{k}"), domain])
            for k in range(self.total)
        ]
        others = scopes[: self.position] + scopes[self.position + 1 :]
        access.set_metadata("alias.scope", module.add_metadata([scopes[self.position]]))
        access.set_metadata("noalias", module.add_metadata(others))
        return access


_LANES = ir.VectorType(DOUBLE, LANES)


def _squares(builder: Any, address: Any, start: Any, stop: Any, storage: str) -> Any:
    with builder.goto_entry_block():
        total = builder.alloca(DOUBLE)
    builder.store(DOUBLE(0.0), total)
    with cgutils.for_range_slice(builder, start, stop, I64(RUN), I64) as (first, _):
        end = builder.add(first, I64(RUN))
        end = builder.select(builder.icmp_signed("<", end, stop), end, stop)
        lanes = _new_lanes(builder)
        _add(builder, lanes, address, first, end, storage, True)
        builder.store(builder.fadd(builder.load(total), _total(builder, lanes)), total)
    return builder.load(total)


def _sum(builder: Any, x: Any, y: Any) -> Any:
    return builder.fadd(x, y)


def _new_lanes(builder: Any, first: float = 0.0) -> Any:
    with builder.goto_entry_block():
        lanes = builder.alloca(_LANES)
    builder.store(ir.Constant(_LANES, [first] * LANES), lanes)
    return lanes


def _add(
    builder: Any,
    lanes: Any,
    address: Any,
    start: Any,
    stop: Any,
    storage: str,
    squares: bool,
    join: Callable[..., Any] = _sum,
) -> None:
    """Sum in the order specified by `numerics.sums`, with the lanes in registers."""
    memory = MEMORY[storage]

    def term(value: Any) -> Any:
        value = widened(builder, value, DOUBLE)
        return builder.fmul(value, value) if squares else value

    whole = builder.and_(builder.sub(stop, start), I64(-LANES))
    whole = builder.add(start, whole)
    with cgutils.for_range_slice(builder, start, whole, I64(LANES), I64) as (index, _):
        place = at(builder, address, index, memory)
        place = builder.bitcast(place, ir.VectorType(memory, LANES).as_pointer())
        row = builder.load(place)
        row.align = 1
        builder.store(join(builder, builder.load(lanes), term(row)), lanes)
    with cgutils.for_range_slice(builder, whole, stop, I64(1), I64) as (index, _):
        value = builder.load(at(builder, address, index, memory))
        lane = builder.trunc(builder.sub(index, whole), I32)
        sums = builder.load(lanes)
        total = join(builder, builder.extract_element(sums, lane), term(value))
        builder.store(builder.insert_element(sums, total, lane), lanes)


def _total(builder: Any, lanes: Any, join: Callable[..., Any] = _sum) -> Any:
    sums, width = builder.load(lanes), LANES
    while width > 1:
        width //= 2
        halves = [
            ir.Constant(ir.VectorType(I32, width), list(range(k, k + width))) for k in (0, width)
        ]
        low, high = (builder.shuffle_vector(sums, sums, half) for half in halves)
        sums = join(builder, low, high)
    return builder.extract_element(sums, I32(0))


def _lanes(builder: Any, place: Any) -> Any:
    return builder.ptrtoint(_new_lanes(builder), I64)


def _lanes_total(builder: Any, lanes: Any) -> Any:
    return _total(builder, builder.inttoptr(lanes, _LANES.as_pointer()))


def _least_lanes(builder: Any, place: Any) -> Any:
    return builder.ptrtoint(_new_lanes(builder, -math.inf), I64)


def _lanes_largest(builder: Any, lanes: Any) -> Any:
    return _total(builder, builder.inttoptr(lanes, _LANES.as_pointer()), larger)


def _scratch(builder: Any, place: Any) -> Any:
    with builder.goto_entry_block():
        room = builder.alloca(ir.ArrayType(DOUBLE, GROUP))
    return builder.ptrtoint(room, I64)


JOB_ACCESS |= {
    "lanes": define(types.int64, (types.int64,), _lanes),
    "lanes_total": define(types.float64, (types.int64,), _lanes_total),
    "least_lanes": define(types.int64, (types.int64,), _least_lanes),
    "lanes_largest": define(types.float64, (types.int64,), _lanes_largest),
    "double": types.float64,
    "infinity": math.inf,
    "scratch": define(types.int64, (types.int64,), _scratch),
}
