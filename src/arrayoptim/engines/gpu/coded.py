"""The sweep for state in 8-bit codes, or for state that is rounded stochastically.

The codes of a group share an exponent that depends on the largest new value in it. So a block steps
a tile, leaves the new values in shared memory, and encodes them once the maximum of each group is
known. Codes and random bits are as specified in `arrayoptim.numerics`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...numerics.int8 import LARGEST
from ...numerics.rounding import GROUP, OFFSETS
from ...rules.rule import Rule
from .element import addressed, element, narrowed
from .prelude import THREADS
from .program import CODES, SEED, TYPES, Program, named, numbers_of, opening
from .sweep import swept

__all__ = ["MOST_CODED", "coded_program"]

_EACH = 8
"""Contiguous elements per thread; all in one group."""

MOST_CODED = 5
"""Most slots in 8-bit codes: their new values must fit in a block's shared memory."""

_CHANCE = (
    f"""
#define OFFSETS {OFFSETS}u
"""
    + r"""
typedef unsigned long long word;

FUNCTION word mixed(word x) {
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ x >> 27) * 0x94D049BB133111EBull;
    return x ^ x >> 31;
}
FUNCTION word drawn(word key, whole count) {
    return mixed((word)count * 0x9E3779B97F4A7C15ull + key);
}
// 16 bits for an element of a group; two slots share a number.
FUNCTION unsigned bits_of(const unsigned *noise, word group, whole within, int half) {
    const unsigned bits = noise[(group & (OFFSETS - 1u)) + within] + (unsigned)(group >> 32);
    return half ? bits >> 16 : bits & 0xFFFFu;
}
FUNCTION void round_by_chance(float x, unsigned chance, bfloat_bits &y) {
    const unsigned bits = __float_as_uint(x);
    y.bits = (unsigned short)((x != x ? bits | 0x7FC00000u : bits + chance) >> 16);
}
"""
)


def coded_program(
    rule: Rule,
    stages: Sequence[str],
    streams: Sequence[tuple[str, str]],
    compute: str,
    chance: bool = False,
) -> Program:
    """Write the sweep for slots that are stored in codes or rounded stochastically.

    Parameters
    ----------
    rule : Rule
        The update rule.
    stages : sequence of str
        The stages to compile in.
    streams : sequence of (str, str)
        As for `sweep_program`. Slots in codes are ``uint8`` (unsigned) or ``int8`` (signed); the
        exponents of ``s0`` are ``s0_exponents``.
    compute : str
        The compute dtype.
    chance : bool
        Whether the rule's slots are rounded stochastically.

    Returns
    -------
    Program
        The kernel.

    Raises
    ------
    UnprintableError
        If the rule uses something outside the grammar.
    """
    names = numbers_of(rule, stages, chance)
    coded = [(name, dtype) for name, dtype in streams if dtype in CODES]
    places = {f"s{k}": k for k in range(len(rule.slots))}

    def bits(name: str, within: str) -> str:
        if not chance:
            return "0x8000u"
        k = places[name]
        return f"bits_of(noise, group{k // 2}, {within}, {k % 2})"

    def ends(name: str, dtype: str) -> str:
        if dtype in CODES:
            kept = f"room.{name}[first + k][u] = (float){name};"
            return f"{kept} top_{name} = larger(top_{name}, magnitude((float){name}));"
        if chance and dtype == "bfloat16" and name in places:
            drawn = bits(name, "i % GROUP + k")
            return f"round_by_chance((float){name}, {drawn}, q_{name}.x[k]);"
        return narrowed(name, dtype)

    groups = [f"group{k}" for k in range(-(-len(rule.slots) // 2))] if chance else []
    given = [(f"word {group}", group) for group in groups]
    given += [("const unsigned *noise", "noise")] if chance else []
    given += [("Tile &room", "room"), ("int first", "k"), ("int u", "u")] if coded else []
    given += [(f"unsigned &top_{name}", f"top_{name}") for name, _ in coded]
    parts = [
        f"#define EACH {_EACH}\n#define GROUP {GROUP}\n#define GROUPS {THREADS * _EACH // GROUP}\n",
        *([_CHANCE] if chance else []),
        *([_tile(coded)] if coded else []),
        *opening(rule, stages, compute),
        element(rule, stages, streams, ends, "".join(f", {typed}" for typed, _ in given)),
        *(_encoding(name, dtype, bits(name, "i % GROUP + k"), given) for name, dtype in coded),
        _kernel(names, streams, [name for _, name in given], groups, coded),
    ]
    return named(f"coded_{rule.name}", parts, names)


def _tile(coded: Sequence[tuple[str, str]]) -> str:
    """Write the struct of a tile in a block's shared memory."""
    rows = [f"    float {name}[EACH][THREADS];\n" for name, _ in coded]
    return (
        f"struct Tile {{\n    unsigned tops[{len(coded)}][GROUPS];\n{''.join(rows)}}};\n"
        "FUNCTION unsigned larger(unsigned x, unsigned y) { return x > y ? x : y; }\n"
    )


def _encoding(name: str, dtype: str, bits: str, given: Sequence[tuple[str, str]]) -> str:
    """Write the function that encodes the new values of a tile."""
    further = "".join(f", {typed}" for typed, _ in given if not typed.startswith("unsigned &"))
    kind = TYPES[dtype]
    return "\n".join(
        [
            "template <int V>",
            f"FUNCTION void encode_{name}(whole i, {kind} *a_{name}, int base{further}) {{",
            f"    Pack<{kind}, V> q;",
            "#pragma unroll",
            "    for (int k = 0; k < V; ++k)",
            f"        encode(room.{name}[first + k][u], base, {bits}, q.x[k]);",
            f"    *(Pack<{kind}, V> *)(a_{name} + i) = q;",
            "}\n",
        ]
    )


def _kernel(
    names: Sequence[str],
    streams: Sequence[tuple[str, str]],
    given: Sequence[str],
    groups: Sequence[str],
    coded: Sequence[tuple[str, str]],
) -> str:
    """Write the kernel: step a tile, then encode it."""
    chance = bool(groups)
    tables = ["const int *ordinals", "const unsigned *noise"] if chance else []
    pointers = addressed(streams)
    further = "".join(f", {name}" for name in given)
    rest = "".join(f", {name}" for name in given if not name.startswith("top_"))

    def at_once(what: str, tail: str) -> list[str]:
        """Write a call for a thread's elements: one vectorized call if they are aligned."""
        one = what.replace("@", "1") + f"(i + k, {tail});"
        return [
            "if (whole_pack) {",
            "    const int k = 0;",
            f"    {what.replace('@', 'EACH')}(i, {tail});",
            "} else {",
            f"    for (int k = 0; k < EACH && i + k < stop; ++k) {one}",
            "}",
        ]

    seeded = []
    if chance:
        high, low = (f"(word)(own ? own[{names.index(n)}] : n_{n})" for n in SEED)
        seeded = [f"const word seed = {high} << 32 | {low};"]
    seeded += [
        f"const word key{k} = drawn(seed, 8 * (whole)ordinals[t] + {k} + 1);"
        for k in range(len(groups))
    ]
    begin = [
        "const whole i = at + EACH * u;",
        "if (i >= stop) continue;",
        "const bool whole_pack = aligned && i + EACH <= stop;",
        *(f"const word {group} = drawn(key{k}, i / GROUP);" for k, group in enumerate(groups)),
    ]
    clear = ["EACH_THREAD(u) {", "    if (u < GROUPS) {"]
    clear += [f"        room.tops[{w}][u] = 0u;" for w in range(len(coded))]
    clear += ["    }", "}", "__syncthreads();"]
    step = [
        *begin,
        *(f"unsigned top_{name} = 0u;" for name, _ in coded),
        *at_once("stepped<@>", f"{pointers}, c{further}"),
        *(
            f"atomicMax(&room.tops[{w}][EACH * u / GROUP], top_{name});"
            for w, (name, _) in enumerate(coded)
        ),
    ]
    encode = [*begin]
    for w, (name, dtype) in enumerate(coded):
        largest = LARGEST[dtype == "int8"]
        encode += [
            f"const int base_{name} = base_of(room.tops[{w}][EACH * u / GROUP], {largest});",
            f"if (i % GROUP == 0) a_{name}_exponents[i / GROUP] = (short)base_{name};",
            *at_once(f"encode_{name}<@>", f"a_{name}, base_{name}{rest}"),
        ]
    lines = [
        *(["__shared__ Tile room;"] if coded else []),
        *seeded,
        "for (whole at = start; at < stop; at += EACH * THREADS) {",
        *(f"    {line}" for line in (clear if coded else [])),
        "    EACH_THREAD(u) {",
        *(f"        {line}" for line in step),
        "    }",
        *(["    __syncthreads();", "    EACH_THREAD(u) {"] if coded else []),
        *(f"        {line}" for line in (encode if coded else [])),
        *(["    }", "    __syncthreads();"] if coded else []),
        "}",
    ]
    return swept(names, streams, lines, tables)
