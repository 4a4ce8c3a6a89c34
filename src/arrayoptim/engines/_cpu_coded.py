"""State in 8 bits inside kernels: what `arrayoptim._codes` specifies, element by element."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from .._codes import GROUP
from ._cpu_memory import Stream, access, at, define
from ._cpu_numbers import FLOAT, I8, I16, I32, I64

_INFINITY = 0x7F800000


class CodeStream(Stream):
    """The codes of a slot: ``int8`` with a sign, ``uint8`` without."""

    def load(self) -> Any:
        """Make the function that decodes an element, given its block's exponent."""
        signed = self.storage == "int8"

        def generate(builder: Any, address: Any, index: Any, base: Any) -> Any:
            byte = self.tagged(builder, builder.load(at(builder, address, index, I8)))
            code = builder.zext(byte, I32)
            magnitude = builder.and_(code, I32(0x7F)) if signed else code
            words = builder.shl(builder.add(magnitude, builder.trunc(base, I32)), I32(20))
            zero = builder.icmp_unsigned("==", magnitude, I32(0))
            words = builder.select(zero, I32(0), words)
            if signed:
                sign = builder.shl(builder.lshr(code, I32(7)), I32(31))
                words = builder.or_(words, sign)
            value = builder.bitcast(words, FLOAT)
            return value if self.kind == FLOAT else builder.fpext(value, self.kind)

        return define(self.number, (types.int64,) * 3, generate)

    def encode(self) -> Any:
        """Make the function that encodes an element, given exponent and random bits."""

        def generate(
            builder: Any, address: Any, index: Any, value: Any, base: Any, bits: Any
        ) -> None:
            words = builder.bitcast(value, I32)
            magnitude = builder.and_(words, I32(0x7FFFFFFF))
            base = builder.trunc(base, I32)
            code = builder.sub(_rounded(builder, magnitude, bits), base)
            if self.storage == "int8":
                code = _with_sign(builder, code, words, magnitude, base, bits)
            else:
                code = _smaller(builder, _larger(builder, code, I32(1)), I32(255))
                zero = builder.icmp_unsigned("==", magnitude, I32(0))
                code = builder.select(zero, I32(0), code)
            place = at(builder, address, index, I8)
            self.tagged(builder, builder.store(builder.trunc(code, I8), place))

        place = (types.int64, types.int64)
        return define(types.void, (*place, types.float32, types.int64, types.uint32), generate)


def _rounded(builder: Any, magnitude: Any, bits: Any) -> Any:
    finite = builder.add(magnitude, builder.shl(bits, I32(4)))
    nan = builder.icmp_unsigned(">", magnitude, I32(_INFINITY))
    special = builder.select(nan, I32(0x7FC00000), magnitude)
    infinite = builder.icmp_unsigned(">=", magnitude, I32(_INFINITY))
    return builder.lshr(builder.select(infinite, special, finite), I32(20))


def _with_sign(builder: Any, code: Any, words: Any, magnitude: Any, base: Any, bits: Any) -> Any:
    least = builder.bitcast(builder.shl(builder.add(base, I32(1)), I32(20)), FLOAT)
    part = builder.fmul(builder.sitofp(bits, FLOAT), ir.Constant(FLOAT, 2.0**-16))
    size = builder.bitcast(magnitude, FLOAT)
    tiny = builder.fcmp_ordered(">", size, builder.fmul(part, least))
    low = builder.icmp_signed("<", code, I32(1))
    code = builder.select(low, builder.zext(tiny, I32), _smaller(builder, code, I32(127)))
    return builder.or_(code, builder.shl(builder.lshr(words, I32(31)), I32(7)))


def _larger(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.icmp_signed(">", x, y), x, y)


def _smaller(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.icmp_signed("<", x, y), x, y)


def _top(builder: Any, top: Any, value: Any) -> Any:
    value = value if value.type == FLOAT else builder.fptrunc(value, FLOAT)
    magnitude = builder.and_(builder.bitcast(value, I32), I32(0x7FFFFFFF))
    return _larger(builder, top, magnitude)


def _exponent(builder: Any, top: Any, largest: Any) -> Any:
    base = builder.sub(builder.lshr(top, I32(20)), builder.trunc(largest, I32))
    return builder.sext(_larger(builder, base, I32(0)), I64)


def _scratch(builder: Any, place: Any) -> Any:
    with builder.goto_entry_block():
        room = builder.alloca(ir.ArrayType(FLOAT, GROUP))
    return builder.ptrtoint(room, I64)


_peek, _poke = access(I16, types.int64)
FUNCTIONS = {
    "peek_int16": _peek,
    "poke_int16": _poke,
    "top": define(types.int32, (types.int32, types.float32), _top),
    "exponent": define(types.int64, (types.int32, types.int64), _exponent),
    "scratch": define(types.int64, (types.int64,), _scratch),
    "nothing": types.int32,
    "half": types.uint32,
}
