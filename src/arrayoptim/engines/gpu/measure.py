"""The source of the pass before a tensorwise sweep: totals of each tensor, and their ratios.

Each tensor's own coefficients are written to its row of the scalar table, where the sweep reads
them: no sync with the host is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...rules import stages as _stages
from ...rules.rule import Rule
from .element import addressed, before, called, carried_out, fetched, loaded, parameters, scalars
from .printer import keys_of, printed
from .program import SEED, Program, named, numbers_of, opening
from .sums import SUMS

__all__ = ["measure_program", "quantities"]

_AT_ONCE = 4
"""Elements that a thread loads before it accumulates their terms."""


def quantities(rule: Rule) -> int:
    """Return the number of totals that a rule takes of each tensor."""
    return len(rule.norms) + len(rule.sums)


def measure_program(
    rule: Rule,
    stages: Sequence[str],
    streams: Sequence[tuple[str, str]],
    compute: str,
    chance: bool = False,
) -> Program:
    """Write the pass before a tensorwise sweep.

    Parameters
    ----------
    rule : Rule
        A rule with totals. Without a ratio its totals are left to the host.
    stages : sequence of str
        The stages of the sweep.
    streams : sequence of (str, str)
        As for the sweep.
    compute : str
        The compute dtype.
    chance : bool
        Whether the sweep rounds slots stochastically.

    Returns
    -------
    Program
        The kernel. It reads the sweep's per-step scalars from the table, one row per tensor.

    Raises
    ------
    UnprintableError
        If the rule uses something outside the grammar.
    """
    names = numbers_of(rule, stages, chance)
    functions = [printed(rule.measure, "measure")] if rule.measure else []
    functions += [printed(_stages.agreement, "agreement")] if rule.masked else []
    parts = [
        SUMS,
        *opening(rule, stages, compute),
        *functions,
        *([printed(rule.ratio, "ratio", "double")] if rule.ratio else []),
        _taken(rule, stages, streams),
        _kernel(rule, names, streams),
    ]
    return named(f"measure_{rule.name}", parts, names)


def _taken(rule: Rule, stages: Sequence[str], streams: Sequence[tuple[str, str]]) -> str:
    """Write the function that computes one element's terms of the totals."""
    own = [f"s{k}" for k in range(len(rule.slots))]
    what = [f"u{k}" for k in range(quantities(rule))]
    if rule.masked:
        lines = [*carried_out(rule, True), f"agreement(q, p, g, {what[0]});"]
    elif rule.measure is None:
        lines = [f"{what[0]} = p;", f"{what[1]} = g;"]
    else:
        lines = [called("measure", own, rule.measure_names, what)]
    pointers = parameters(streams)
    results = "".join(f", double &total{k}" for k in range(len(what)))
    body = [
        "const int k = 0;",
        *loaded(streams, 1),
        *before(rule, stages, streams),
        f"real {', '.join(what)};",
        *lines,
        *(f"total{k} = (double){u};" for k, u in enumerate(what)),
    ]
    inner = "".join(f"    {line}\n" for line in body)
    return f"FUNCTION void taken(whole i, {pointers}, const Numbers &c{results}) {{\n{inner}}}\n"


def _kernel(rule: Rule, names: Sequence[str], streams: Sequence[tuple[str, str]]) -> str:
    count, squared = quantities(rule), len(rule.norms)
    columns = len(names)
    addresses = addressed(streams)
    places, alone = (
        ", ".join(f"{x}{k}{y}" for k in range(count)) for x, y in (("x", "[k]"), ("y", ""))
    )
    square = [f"y{k} * y{k}" if k < squared else f"y{k}" for k in range(count)]
    adds = " ".join(f"sum{k} += {term};" for k, term in enumerate(square))
    held = " ".join(f"const double y{k} = x{k}[k];" for k in range(count))
    totals = [
        f"xp_sqrt(sums[{k} * count + j])" if k < squared else f"sums[{k} * count + j]"
        for k in range(count)
    ]
    ends = []
    if rule.ratio is not None:
        given = [f"own[{names.index(name)}]" for name in rule.ratio_names]
        results = [f"own[{names.index(name)}]" for name in keys_of(rule.ratio)]
        ends = [
            "    for (whole j = u; j < count; j += THREADS) {",
            f"        double *own = table + 1 + {columns} * j;",
            f"        ratio({', '.join(['(double)sizes[j]', *totals, *given, *results])});",
            "    }",
        ]
    lines = [
        "__shared__ Room room;",
        "const int t = chunks[2 * blockIdx.x];",
        *fetched(streams),
        "const double *mine = table + 1 + (whole)table[0] * t;",
        "Numbers c;",
        *scalars({name: f"mine[{k}]" for k, name in enumerate(names) if name not in SEED}),
        "const whole start = (whole)BLOCK * chunks[2 * blockIdx.x + 1], size = sizes[t];",
        "const whole stop = size - start < BLOCK ? size : start + BLOCK;",
        "EACH_THREAD(u) {",
        "    const whole begin = start + (whole)RUN * (u / LANES);",
        "    const whole end = a_g ? stop < begin + RUN ? stop : begin + RUN : 0;",
        "    whole i = begin + u % LANES;",
        f"    double {', '.join(f'sum{k} = 0.0' for k in range(count))};",
        f"    for (; i + {_AT_ONCE - 1} * LANES < end; i += {_AT_ONCE} * LANES) {{",
        f"        double {', '.join(f'x{k}[{_AT_ONCE}]' for k in range(count))};",
        f"        for (int k = 0; k < {_AT_ONCE}; ++k)",
        f"            taken(i + k * LANES, {addresses}, c, {places});",
        f"        for (int k = 0; k < {_AT_ONCE}; ++k) {{ {held} {adds} }}",
        "    }",
        "    for (; i < end; i += LANES) {",
        f"        double {alone};",
        f"        taken(i, {addresses}, c, {alone});",
        f"        {adds}",
        "    }",
        *(f"    room.lanes[{k}][u] = sum{k};" for k in range(count)),
        "}",
        f"fold_lanes(room, {count});",
        f"if (!is_last(room, {count}, partial, arrived, count)) return;",
        f"for (int w = 0; w < {count}; ++w)",
        "    sum_runs(",
        "        room, partial + w * (whole)gridDim.x, gridDim.x, first, count, sums + w * count",
        "    );",
        "EACH_THREAD(u) {",
        *ends,
        "    if (u == 0) *arrived = 0;",
        "}",
    ]
    return "\n".join(
        [
            "KERNEL @NAME@(",
            "    const int *chunks, const whole *sizes, const whole *first, const int *leaves,",
            "    const whole *pointers, const whole *gradients, const double *norm,",
            "    const double *norms, double *table, double *partial, double *sums,",
            "    int *arrived, whole count) {",
            *(f"    {line}" for line in lines),
            "}",
        ]
    )
