"""The operations of a compiled search, which steps one problem after another."""

from __future__ import annotations

from functools import cache

from ..engines.cpu.source import Program, framed
from . import machine, memory, wolfe
from .state_layout import CHANGES, CURVED, MIXED, PAIRS, STEPS, UPPER, Settings

CELLS = UPPER + 1
"""Cells of a problem in the table: addresses, at the indices of `state_layout`; those of numbers,
which are contiguous, hold properties of the whole problem instead."""

WHERE_NUMBERS, SIZE, MEMORY, BOXED = range(4)

_PARTS = (
    *(machine.walk, machine.walked, machine.walked_inside, machine.path_slope, machine.unbent),
    *(machine.further, machine.arrive, machine.back, machine.stillness, machine.projected),
    *(memory.learned, memory.difference, memory.held, memory.freed, memory.masked),
    *(memory.reverse, memory.balanced, memory.assembled),
    *(wolfe.advance, wolfe.inner_ends, wolfe.become, wolfe.chosen, wolfe.cubic, wolfe.shrunk),
    *(wolfe.Bounds, Settings),
)
_INLINED = (machine.tell, machine.take_up, machine.onwards, memory.aimed, memory.newton)

_NUMBERS = f"""
@word
def get(s, name):
    return peek_double(peek(s, {WHERE_NUMBERS}), name)

@word
def put(s, name, value):
    poke_double(peek(s, {WHERE_NUMBERS}), name, value)

@word
def write(s, name, value, where):
    if where:
        poke_double(peek(s, {WHERE_NUMBERS}), name, value)

@word
def boxed(s):
    return peek(s, {BOXED}) != 0

@word
def memory(s):
    return double(peek(s, {MEMORY}))
"""

_EACH = """
@word
def {name}(s, target, function, {names}, t):
    at, number, {places} = peek(s, target), {number}(t), {peeks}
    for i in range(peek(s, {length})):
        store_{kind}(at, i, function(ns, {loads}, number))
"""

_VECTORS = f"""
@word
def copy(s, target, source):
    at, start = peek(s, target), peek(s, source)
    for i in range(peek(s, {SIZE})):
        store_x(at, i, load_x(start, i))

@word
def take(s, target, source, where):
    if where:
        copy(s, target, source)

@word
def inner(s, one, other):
    return inner_x(peek(s, one), peek(s, other), peek(s, {SIZE}))

@word
def largest(s, name):
    at, found = peek(s, name), 0.0
    for i in range(peek(s, {SIZE})):
        x = abs(double(load_x(at, i)))
        if x > found or x != x:
            found = x
    return found

@word
def total(s, name):
    at, found = peek(s, name), 0.0
    for i in range(peek(s, {SIZE})):
        found += abs(double(load_x(at, i)))
    return found

@word
def oldest(s):
    return peek(s, {MEMORY}) - int(peek_double(peek(s, {WHERE_NUMBERS}), {PAIRS}))

@word
def bytes_of(s):
    return {{item}} * peek(s, {SIZE})

@word
def shift(s, rows, new, where):
    if where:
        last = peek(s, {MEMORY}) - 1
        size, at, start = peek(s, {SIZE}), peek(s, rows), peek(s, new)
        for i in range(oldest(s) * size, last * size):
            store_x(at, i, load_x(at, i + size))
        for i in range(size):
            store_x(at, last * size + i, load_x(start, i))

@word
def border(s, square, new, where):
    if where:
        count, at, column = peek(s, {MEMORY}), peek(s, square), peek(s, new)
        first = oldest(s)
        for i in range(first, count - 1):
            for j in range(first, count - 1):
                poke_double(at, i * count + j, peek_double(at, (i + 1) * count + j + 1))
        for i in range(first, count):
            x = peek_double(column, i)
            poke_double(at, i * count + count - 1, x)
            poke_double(at, (count - 1) * count + i, x)

@word
def forget(s, where):
    if where:
        count, size = peek(s, {MEMORY}), peek(s, {SIZE})
        for i in range(oldest(s) * size, count * size):
            store_x(peek(s, {STEPS}), i, compute(0.0))
            store_x(peek(s, {CHANGES}), i, compute(0.0))
        for i in range(count * count):
            poke_double(peek(s, {MIXED}), i, 0.0)
            poke_double(peek(s, {CURVED}), i, 0.0)

@word
def product(s, target, rows, vector):
    size, at, row, start = peek(s, {SIZE}), peek(s, target), peek(s, rows), peek(s, vector)
    for i in range(oldest(s), peek(s, {MEMORY})):
        poke_double(at, i, inner_x(row + bytes_of(s) * i, start, size))

@word
def combine(s, target, rows, shares):
    size, at, row, share = peek(s, {SIZE}), peek(s, target), peek(s, rows), peek(s, shares)
    for i in range(size):
        store_x(at, i, compute(0.0))
    for k in range(oldest(s), peek(s, {MEMORY})):
        start, number = row + bytes_of(s) * k, compute(peek_double(share, k))
        for i in range(size):
            store_x(at, i, load_x(at, i) + number * load_x(start, i))

@word
def multiply(s, target, square, vector):
    count, first = peek(s, {MEMORY}), oldest(s)
    at, row, start = peek(s, target), peek(s, square), peek(s, vector)
    for i in range(first, count):
        known = 8 * (i * count + first)
        poke_double(at, i, inner_y(row + known, start + 8 * first, count - first))

@word
def triangle(s, upper, diagonal, square):
    count, at, start = peek(s, {MEMORY}), peek(s, diagonal), peek(s, square)
    for i in range(oldest(s), count):
        poke_double(at, i, peek_double(start, i * (count + 1)))

@word
def solve(s, target, upper, right):
    count, first = peek(s, {MEMORY}), oldest(s)
    at, row, known = peek(s, target), peek(s, upper), peek(s, right)
    for i in range(count - 1, first - 1, -1):
        start = i * count + i
        others = inner_y(row + 8 * (start + 1), at + 8 * (i + 1), count - 1 - i)
        poke_double(at, i, (peek_double(known, i) - others) / peek_double(row, start))

@word
def solve_turned(s, target, upper, right):
    count, first = peek(s, {MEMORY}), oldest(s)
    at, row, known = peek(s, target), peek(s, upper), peek(s, right)
    for i in range(first, count):
        poke_double(at, i, peek_double(known, i))
    for i in range(first, count):
        x = peek_double(at, i) / peek_double(row, i * count + i)
        poke_double(at, i, x)
        for j in range(i + 1, count):
            poke_double(at, j, peek_double(at, j) - x * peek_double(row, i * count + j))
"""


def _each(name: str, count: int, few: bool = False) -> str:
    names, kind = "abcde"[:count], "y" if few else "x"
    return _EACH.format(
        name=name,
        names=", ".join(names),
        places=", ".join(f"{n}_at" for n in names),
        peeks=", ".join(f"peek(s, {n})" for n in names),
        loads=", ".join(f"load_{kind}({n}_at, i)" for n in names),
        length=MEMORY if few else SIZE,
        number="double" if few else "compute",
        kind=kind,
    )


@cache
def program(dtype: str) -> Program:
    """Return the program that passes losses to problems.

    Parameters
    ----------
    dtype : str
        The dtype of the vectors.

    Returns
    -------
    Program
        A chunk is a problem; ``pointers`` is the table of `CELLS`, ``sums`` the losses,
        ``coefficients`` the numbers of `Settings`.
    """
    numbers = (f"peek_double(coefficients, {k})" for k in range(7))
    gtol, ftol, share, *bounds = numbers
    lines = f"""
s = pointers + {8 * CELLS} * problem
conditions = Bounds({", ".join(bounds)})
settings = Settings({gtol}, {ftol}, {share}, conditions)
tell(ns, s, peek_double(sums, problem), settings)
"""
    each = "".join(_each(f"each{count}", count) for count in (2, 3, 4, 5))
    few = _each("few4", 4, few=True)
    text = _NUMBERS + _VECTORS.format(item={"float32": 4, "float64": 8}[dtype]) + each + few
    source = text + framed(lines.strip().splitlines(), ("problem",))
    streams = ("x", dtype), ("y", "float64")
    return Program(source, (), streams, dtype, parts=_PARTS, inlined=_INLINED)
