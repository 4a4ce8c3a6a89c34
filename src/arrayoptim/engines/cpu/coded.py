"""8-bit state inside kernels, as specified by `arrayoptim.numerics.int8`.

Numba's loop decodes, steps, and leaves a group's new values in scratch memory. They are encoded in
vectors of 32, as only that makes packing to bytes cheap.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .memory import Stream, access, at, define
from .numbers import FLOAT, I8, I16, I32, I64, constant, like

_WIDTH = 32
_INFINITY = 0x7F800000


class CodeStream(Stream):
    """The codes of a slot: ``int8`` with a sign, ``uint8`` without."""

    def load(self) -> Any:
        """Make the function that decodes an element, given its group's exponent."""
        signed = self.storage == "int8"

        def generate(builder: Any, address: Any, index: Any, base: Any) -> Any:
            byte = self.tagged(builder, builder.load(at(builder, address, index, I8)))
            code, base = builder.zext(byte, I32), builder.trunc(base, I32)
            magnitude = builder.and_(code, I32(0x7F)) if signed else code
            words = builder.shl(builder.add(magnitude, base), I32(20))
            value = builder.bitcast(words, FLOAT)
            if signed:
                value = builder.fsub(value, builder.bitcast(_words(builder, base), FLOAT))
                sign = builder.shl(builder.lshr(code, I32(7)), I32(31))
                words = builder.or_(builder.bitcast(value, I32), sign)
                value = builder.bitcast(words, FLOAT)
            return value if self.kind == FLOAT else builder.fpext(value, self.kind)

        return define(self.number, (types.int64,) * 3, generate)

    def encode(self, half: int) -> Any:
        """Make the function that encodes a group, given exponent and noise; 0 means no noise."""

        def generate(
            builder: Any, address: Any, scratch: Any, count: Any, base: Any, noise: Any, group: Any
        ) -> None:
            base = builder.trunc(base, I32)
            more = builder.trunc(builder.lshr(group, I64(32)), I32)
            whole = builder.and_(count, I64(-_WIDTH))
            for first, end, width in ((I64(0), whole, _WIDTH), (whole, count, 1)):
                bounds = first, end, I64(width)
                with cgutils.for_range_slice(builder, *bounds, I64) as (index, _):
                    value = _vector(builder, scratch, index, FLOAT, width)
                    words = _vector(builder, noise, index, I32, width)
                    bits = _half(builder, words, more, half)
                    self._store(builder, address, index, self._code(builder, value, base, bits))

        return define(types.void, (types.int64,) * 6, generate)

    def encode_nearest(self) -> Any:
        """Make the function that encodes a group with rounding to nearest."""

        def generate(builder: Any, address: Any, scratch: Any, count: Any, base: Any) -> None:
            base = builder.trunc(base, I32)
            whole = builder.and_(count, I64(-_WIDTH))
            for first, end, width in ((I64(0), whole, _WIDTH), (whole, count, 1)):
                bounds = first, end, I64(width)
                with cgutils.for_range_slice(builder, *bounds, I64) as (index, _):
                    value = _vector(builder, scratch, index, FLOAT, width)
                    bits = constant(builder.bitcast(value, like(I32, value)), 1 << 15)
                    self._store(builder, address, index, self._code(builder, value, base, bits))

        return define(types.void, (types.int64,) * 4, generate)

    def _code(self, builder: Any, value: Any, base: Any, bits: Any) -> Any:
        whole = like(I32, value)
        words = builder.bitcast(value, whole)
        base = _spread(builder, base, words)
        magnitude = builder.and_(words, constant(words, 0x7FFFFFFF))
        magnitude = _smaller(builder, magnitude, constant(words, _INFINITY))
        if self.storage == "int8":
            offset = builder.bitcast(_words(builder, base), value.type)
            size = builder.fadd(builder.bitcast(magnitude, value.type), offset)
            magnitude = builder.bitcast(size, whole)
        rounded = builder.add(magnitude, builder.shl(bits, constant(words, 4)))
        code = builder.sub(builder.lshr(rounded, constant(words, 20)), base)
        if self.storage == "uint8":
            return _larger(builder, code, constant(words, 0))
        sign = builder.and_(builder.lshr(words, constant(words, 24)), constant(words, 0x80))
        return builder.or_(code, sign)

    def _store(self, builder: Any, address: Any, index: Any, code: Any) -> None:
        kind = like(I8, code)
        place = builder.bitcast(at(builder, address, index, I8), kind.as_pointer())
        access = builder.store(builder.trunc(code, kind), place)
        access.align = 1
        self.tagged(builder, access)


def _vector(builder: Any, address: Any, index: Any, kind: Any, width: int) -> Any:
    wide = ir.VectorType(kind, width)
    place = builder.bitcast(at(builder, address, index, kind), wide.as_pointer())
    value = builder.load(place)
    value.align = 4
    return value


def _half(builder: Any, words: Any, more: Any, half: int) -> Any:
    words = builder.add(words, _spread(builder, more, words))
    if half:
        return builder.lshr(words, constant(words, 16))
    return builder.and_(words, constant(words, 0xFFFF))


def _spread(builder: Any, number: Any, over: Any) -> Any:
    """Return a vector filled with a number."""
    first = builder.insert_element(ir.Constant(over.type, ir.Undefined), number, I32(0))
    return builder.shuffle_vector(first, first, constant(over, 0))


def _words(builder: Any, base: Any) -> Any:
    return builder.shl(base, constant(base, 20))


def _larger(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.icmp_signed(">", x, y), x, y)


def _smaller(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.icmp_signed("<", x, y), x, y)


def _top(builder: Any, top: Any, value: Any) -> Any:
    value = value if value.type == FLOAT else builder.fptrunc(value, FLOAT)
    magnitude = builder.and_(builder.bitcast(value, I32), I32(0x7FFFFFFF))
    return _larger(builder, top, magnitude)


def _exponent(builder: Any, top: Any, largest: Any) -> Any:
    top = builder.lshr(_smaller(builder, top, I32(_INFINITY)), I32(20))
    base = builder.sub(top, builder.trunc(largest, I32))
    return builder.sext(_larger(builder, base, I32(0)), I64)


_peek, _poke = access(I16, types.int64)
FUNCTIONS = {
    "peek_int16": _peek,
    "poke_int16": _poke,
    "top": define(types.int32, (types.int32, types.float32), _top),
    "exponent": define(types.int64, (types.int32, types.int64), _exponent),
    "nothing": types.int32,
}
