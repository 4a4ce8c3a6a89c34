"""Memory access by address, for kernels: cells of a job, and elements of arrays.

Numba alone would check at run time whether arrays overlap, and give up on a loop over
more than a few of them. Here every load and store says which of the kernel's streams it
touches, and that streams do not overlap: loops vectorise whatever the number of arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .._norms import LANES

__all__ = ["COMPUTE", "JOB_ACCESS", "Stream"]

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_HALF, _FLOAT, _DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
_MEMORY = {"float16": _HALF, "bfloat16": _I16, "float32": _FLOAT, "float64": _DOUBLE}
COMPUTE = {"float32": (types.float32, _FLOAT), "float64": (types.float64, _DOUBLE)}


def _define(result: Any, arguments: tuple[Any, ...], generate: Callable[..., Any]) -> Any:
    """Make an intrinsic from a function of an IR builder and the arguments' IR values."""
    signature = result(*arguments)

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        value = generate(builder, *values)
        return context.get_dummy_value() if value is None else value

    if len(arguments) == 1:
        return intrinsic(lambda typing, a: (signature, code))
    if len(arguments) == 2:
        return intrinsic(lambda typing, a, b: (signature, code))
    return intrinsic(lambda typing, a, b, c: (signature, code))


def _at(builder: Any, address: Any, index: Any, kind: Any) -> Any:
    return builder.gep(builder.inttoptr(address, kind.as_pointer()), [index])


def _access(kind: Any, result: Any) -> tuple[Any, Any]:
    """Make the functions that read and write one element at an address."""

    def peek(builder: Any, address: Any, index: Any) -> Any:
        value = builder.load(_at(builder, address, index, kind))
        return builder.sext(value, _I64) if kind is _I32 else value

    def poke(builder: Any, address: Any, index: Any, value: Any) -> None:
        builder.store(value, _at(builder, address, index, kind))

    place = (types.int64, types.int64)
    return _define(result, place, peek), _define(types.void, (*place, result), poke)


def _claim(builder: Any, job: Any, cell: Any) -> Any:
    return builder.atomic_rmw("add", _at(builder, job, cell, _I64), _I64(1), "monotonic")


def _arrive(builder: Any, job: Any, cell: Any) -> None:
    builder.atomic_rmw("add", _at(builder, job, cell, _I64), _I64(1), "release")


def _arrived(builder: Any, job: Any, cell: Any) -> Any:
    return builder.load_atomic(_at(builder, job, cell, _I64), "acquire", 8)


def _call2(builder: Any, function: Any, first: Any, second: Any) -> Any:
    kind = ir.FunctionType(_I32, (_I64, _I64)).as_pointer()
    return builder.sext(builder.call(builder.inttoptr(function, kind), (first, second)), _I64)


def _relax(builder: Any, address: Any) -> None:
    with builder.if_then(builder.icmp_signed("!=", address, _I64(0))):
        kind = ir.FunctionType(_I32, ()).as_pointer()
        builder.call(builder.inttoptr(address, kind), ())


_peek, _poke = _access(_I64, types.int64)
_peek_double, _poke_double = _access(_DOUBLE, types.float64)
JOB_ACCESS = {
    "peek": _peek,
    "poke": _poke,
    "peek_double": _peek_double,
    "poke_double": _poke_double,
    "peek_int32": _access(_I32, types.int64)[0],
    "claim": _define(types.int64, (types.int64, types.int64), _claim),
    "arrive": _define(types.void, (types.int64, types.int64), _arrive),
    "arrived": _define(types.int64, (types.int64, types.int64), _arrived),
    "call2": _define(types.int64, (types.int64,) * 3, _call2),
    "relax": _define(types.void, (types.int64,), _relax),
}


class Stream:
    """Loads and stores of one of a kernel's arrays, in the dtype of the arithmetic."""

    def __init__(self, position: int, total: int, storage: str, compute: str) -> None:
        self.position, self.total, self.storage = position, total, storage
        self.number, self.kind = COMPUTE[compute]

    def load(self) -> Any:
        def generate(builder: Any, address: Any, index: Any) -> Any:
            place = _at(builder, address, index, _MEMORY[self.storage])
            return _widened(builder, self._tagged(builder, builder.load(place)), self.kind)

        return _define(self.number, (types.int64, types.int64), generate)

    def store(self) -> Any:
        def generate(builder: Any, address: Any, index: Any, value: Any) -> None:
            place = _at(builder, address, index, _MEMORY[self.storage])
            value = _narrowed(builder, value, self.storage)
            self._tagged(builder, builder.store(value, place))

        return _define(types.void, (types.int64, types.int64, self.number), generate)

    def stored(self) -> Any:
        def generate(builder: Any, value: Any) -> Any:
            return _widened(builder, _narrowed(builder, value, self.storage), self.kind)

        return _define(self.number, (self.number,), generate)

    def squares(self) -> Any:
        def generate(builder: Any, address: Any, start: Any, stop: Any) -> Any:
            return _squares(builder, address, start, stop, self.storage)

        return _define(types.float64, (types.int64, types.int64, types.int64), generate)

    def _tagged(self, builder: Any, access: Any) -> Any:
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


def _like(kind: Any, value: Any) -> Any:
    """Give the scalar or vector type of that kind, as wide as the value."""
    return ir.VectorType(kind, value.type.count) if isinstance(value.type, ir.VectorType) else kind


def _constant(value: Any, number: int) -> Any:
    kind = value.type
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def _widened(builder: Any, value: Any, kind: Any) -> Any:
    """Convert from the dtype in memory; bfloat16, the upper half of a float32, comes as int16."""
    element = value.type.element if isinstance(value.type, ir.VectorType) else value.type
    if element == _I16:
        bits = builder.zext(value, _like(_I32, value))
        bits = builder.shl(bits, _constant(bits, 16))
        value, element = builder.bitcast(bits, _like(_FLOAT, value)), _FLOAT
    if element == kind:
        return value
    convert = builder.fptrunc if element == _DOUBLE else builder.fpext
    return convert(value, _like(kind, value))


def _narrowed(builder: Any, value: Any, storage: str) -> Any:
    """Convert to the dtype in memory, to the nearest, ties to even; NaN stays NaN."""
    if storage != "bfloat16":
        kind = _MEMORY[storage]
        if value.type == kind:
            return value
        convert = builder.fpext if kind == _DOUBLE else builder.fptrunc
        return convert(value, kind)
    value = value if value.type == _FLOAT else builder.fptrunc(value, _FLOAT)
    bits = builder.bitcast(value, _I32)
    odd = builder.and_(builder.lshr(bits, _I32(16)), _I32(1))
    rounded = builder.add(bits, builder.add(odd, _I32(0x7FFF)))
    nan = builder.or_(bits, _I32(0x7FC00000))
    bits = builder.select(builder.fcmp_unordered("uno", value, value), nan, rounded)
    return builder.trunc(builder.lshr(bits, _I32(16)), _I16)


def _squares(builder: Any, address: Any, start: Any, stop: Any, storage: str) -> Any:
    """Add up squares in the order that `_norms` specifies, lanes side by side in registers."""
    memory = _MEMORY[storage]
    wide = ir.VectorType(_DOUBLE, LANES)
    lanes = builder.alloca(wide)
    builder.store(ir.Constant(wide, [0.0] * LANES), lanes)
    whole = builder.and_(builder.sub(stop, start), _I64(-LANES))
    whole = builder.add(start, whole)
    with cgutils.for_range_slice(builder, start, whole, _I64(LANES), _I64) as (index, _):
        place = _at(builder, address, index, memory)
        place = builder.bitcast(place, ir.VectorType(memory, LANES).as_pointer())
        row = builder.load(place)
        row.align = 1
        row = _widened(builder, row, _DOUBLE)
        builder.store(builder.fadd(builder.load(lanes), builder.fmul(row, row)), lanes)
    with cgutils.for_range_slice(builder, whole, stop, _I64(1), _I64) as (index, _):
        value = builder.load(_at(builder, address, index, memory))
        value = _widened(builder, value, _DOUBLE)
        lane = builder.trunc(builder.sub(index, whole), _I32)
        sums = builder.load(lanes)
        total = builder.fadd(builder.extract_element(sums, lane), builder.fmul(value, value))
        builder.store(builder.insert_element(sums, total, lane), lanes)
    sums, width = builder.load(lanes), LANES
    while width > 1:
        width //= 2
        halves = [
            ir.Constant(ir.VectorType(_I32, width), list(range(k, k + width))) for k in (0, width)
        ]
        low, high = (builder.shuffle_vector(sums, sums, half) for half in halves)
        sums = builder.fadd(low, high)
    return builder.extract_element(sums, _I32(0))
