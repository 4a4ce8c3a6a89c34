"""Numbers in memory and in registers: conversions and random bits, as LLVM instructions."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ...numerics.rounding import OFFSETS

I1, I8, I16, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
MEMORY = {"float16": HALF, "bfloat16": I16, "float32": FLOAT, "float64": DOUBLE}
"""The LLVM type of a dtype in memory."""

_STRIDE = 0x9E3779B97F4A7C15


def like(kind: Any, value: Any) -> Any:
    """Return the scalar or vector type with as many elements as the value."""
    return ir.VectorType(kind, value.type.count) if isinstance(value.type, ir.VectorType) else kind


def constant(value: Any, number: int) -> Any:
    kind = value.type
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def widened(builder: Any, value: Any, kind: Any) -> Any:
    """Convert from the dtype in memory; bfloat16, the upper half of a float32, comes as int16."""
    element = value.type.element if isinstance(value.type, ir.VectorType) else value.type
    if element == I16:
        bits = builder.zext(value, like(I32, value))
        bits = builder.shl(bits, constant(bits, 16))
        value, element = builder.bitcast(bits, like(FLOAT, value)), FLOAT
    if element == kind:
        return value
    convert = builder.fptrunc if element == DOUBLE else builder.fpext
    return convert(value, like(kind, value))


def narrowed(builder: Any, value: Any, storage: str) -> Any:
    """Convert to the dtype in memory, rounding to nearest, ties to even; NaN stays NaN."""
    if storage != "bfloat16":
        kind = MEMORY[storage]
        if value.type == kind:
            return value
        convert = builder.fpext if kind == DOUBLE else builder.fptrunc
        return convert(value, kind)
    value = value if value.type == FLOAT else builder.fptrunc(value, FLOAT)
    bits = builder.bitcast(value, I32)
    odd = builder.and_(builder.lshr(bits, I32(16)), I32(1))
    rounded = builder.add(bits, builder.add(odd, I32(0x7FFF)))
    nan = builder.or_(bits, I32(0x7FC00000))
    bits = builder.select(builder.fcmp_unordered("uno", value, value), nan, rounded)
    return builder.trunc(builder.lshr(bits, I32(16)), I16)


def by_chance(builder: Any, value: Any, bits: Any) -> Any:
    """Convert to bfloat16 as `arrayoptim.numerics.rounding.stochastic_bfloat16` does.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Receives the instructions.
    value : llvmlite.ir.Value
        A float or double.
    bits : llvmlite.ir.Value
        16 random bits, as 32-bit integer.

    Returns
    -------
    llvmlite.ir.Value
        The 16 bits of the result.
    """
    value = value if value.type == FLOAT else builder.fptrunc(value, FLOAT)
    words = builder.bitcast(value, I32)
    nan = builder.or_(words, I32(0x7FC00000))
    unordered = builder.fcmp_unordered("uno", value, value)
    words = builder.select(unordered, nan, builder.add(words, bits))
    return builder.trunc(builder.lshr(words, I32(16)), I16)


def larger(builder: Any, x: Any, y: Any) -> Any:
    """Return the larger of two floats, elementwise for vectors; NaN propagates."""
    return extreme(builder, ">", x, y)


def extreme(builder: Any, relation: str, x: Any, y: Any) -> Any:
    """Return the minimum or maximum of two floats, given the comparison; NaN propagates."""
    # For +0 and -0 the second operand, as in NumPy's vector code.
    first = builder.select(builder.fcmp_ordered(relation, x, y), x, y)
    return builder.select(builder.fcmp_unordered("uno", x, x), x, first)


def _mixed(builder: Any, x: Any) -> Any:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = builder.mul(builder.xor(x, builder.lshr(x, I64(shift))), I64(factor))
    return builder.xor(x, builder.lshr(x, I64(31)))


def random_key(builder: Any, seed: Any, leaf: Any, pair: Any) -> Any:
    """Return the key of two slots of a leaf, see `arrayoptim.numerics.rounding.random_bits`.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Receives the instructions.
    seed, leaf, pair : llvmlite.ir.Value
        64-bit integers.

    Returns
    -------
    llvmlite.ir.Value
        64 bits.
    """
    place = builder.add(builder.add(builder.mul(leaf, I64(8)), pair), I64(1))
    return random_group(builder, seed, place)


def random_group(builder: Any, key: Any, place: Any) -> Any:
    """Return the random number of a group of elements, by its index.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Receives the instructions.
    key, place : llvmlite.ir.Value
        64-bit integers.

    Returns
    -------
    llvmlite.ir.Value
        64 bits: the upper ones are added to the noise, the lower ones give the piece's offset.
    """
    return _mixed(builder, builder.add(key, builder.mul(place, I64(_STRIDE))))


def piece(builder: Any, noise: Any, group: Any) -> Any:
    """Return the address of a group's piece of the noise table.

    Parameters
    ----------
    builder : llvmlite.ir.IRBuilder
        Receives the instructions.
    noise, group : llvmlite.ir.Value
        Address of the table, and the result of `random_group`.

    Returns
    -------
    llvmlite.ir.Value
        The address.
    """
    first = builder.and_(group, I64(OFFSETS - 1))
    return builder.add(noise, builder.mul(first, I64(4)))
