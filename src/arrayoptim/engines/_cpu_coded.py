"""State in 8 bits inside kernels: what `arrayoptim._codes` specifies, element by element."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from .._codes import GROUP
from ._cpu_memory import Stream, access, at, define
from ._cpu_numbers import FLOAT, I8, I16, I32, I64

_INFINITY = I32(0x7F800000)


class CodeStream(Stream):
    """The codes of a slot: ``int8`` with a sign, ``uint8`` without."""

    def load(self) -> Any:
        """Make the function that decodes an element, given its block's exponent."""
        signed = self.storage == "int8"

        def generate(builder: Any, address: Any, index: Any, base: Any) -> Any:
            byte = self.tagged(builder, builder.load(at(builder, address, index, I8)))
            code, base = builder.zext(byte, I32), builder.trunc(base, I32)
            magnitude = builder.and_(code, I32(0x7F)) if signed else code
            words = builder.shl(builder.add(magnitude, base), I32(20))
            value = builder.bitcast(words, FLOAT)
            if signed:
                value = builder.fsub(value, _offset(builder, base))
                sign = builder.shl(builder.lshr(code, I32(7)), I32(31))
                words = builder.or_(builder.bitcast(value, I32), sign)
                value = builder.bitcast(words, FLOAT)
            return value if self.kind == FLOAT else builder.fpext(value, self.kind)

        return define(self.number, (types.int64,) * 3, generate)

    def encode(self) -> Any:
        """Make the function that encodes an element, given exponent and random bits."""
        signed = self.storage == "int8"

        def generate(
            builder: Any, address: Any, index: Any, value: Any, base: Any, bits: Any
        ) -> None:
            words, base = builder.bitcast(value, I32), builder.trunc(base, I32)
            magnitude = _smaller(builder, builder.and_(words, I32(0x7FFFFFFF)), _INFINITY)
            if signed:
                size = builder.fadd(builder.bitcast(magnitude, FLOAT), _offset(builder, base))
                magnitude = builder.bitcast(size, I32)
            rounded = builder.add(magnitude, builder.shl(bits, I32(4)))
            code = builder.sub(builder.lshr(rounded, I32(20)), base)
            if signed:
                code = builder.or_(code, builder.shl(builder.lshr(words, I32(31)), I32(7)))
            else:
                code = _larger(builder, code, I32(0))
            place = at(builder, address, index, I8)
            self.tagged(builder, builder.store(builder.trunc(code, I8), place))

        place = (types.int64, types.int64)
        return define(types.void, (*place, types.float32, types.int64, types.uint32), generate)


def _offset(builder: Any, base: Any) -> Any:
    return builder.bitcast(builder.shl(base, I32(20)), FLOAT)


def _larger(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.icmp_signed(">", x, y), x, y)


def _smaller(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.icmp_signed("<", x, y), x, y)


def _top(builder: Any, top: Any, value: Any) -> Any:
    value = value if value.type == FLOAT else builder.fptrunc(value, FLOAT)
    magnitude = builder.and_(builder.bitcast(value, I32), I32(0x7FFFFFFF))
    return _larger(builder, top, magnitude)


def _exponent(builder: Any, top: Any, largest: Any) -> Any:
    top = builder.lshr(_smaller(builder, top, _INFINITY), I32(20))
    base = builder.sub(top, builder.trunc(largest, I32))
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
