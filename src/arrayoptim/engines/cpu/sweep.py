"""The source of the sweep: stages and rule on each element, as one loop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ...numerics.int8 import LARGEST
from ...numerics.rounding import GROUP
from ...numerics.sums import RUN
from ...rules import stages as _stages
from ...rules.rule import Rule
from ...rules.stages import SWEPT
from .source import Program, framed

CODES = {"int8": LARGEST[True], "uint8": LARGEST[False]}
"""The dtypes of codes, with and without sign, and the largest code before rounding."""

FUNCTIONS = {"master": ("heal",), "kahan": ("compensate", "remainder")}


def _line(stage: _stages.Stage) -> str:
    """Return the line of a stage that is a plain function call."""
    assert stage.function is not None
    arguments = ", ".join((*stage.operands, *stage.numbers, "xp"))
    return f"{stage.operands[0]} = {stage.function.__name__}({arguments})"


BEFORE = {
    "master": "p = heal(p, load_master(a_master, i), stored_p(load_master(a_master, i)), xp)",
    "kahan": "p = compensate(p, load_compensation(a_compensation, i), xp)",
    **{stage.name: _line(stage) for stage in _stages.applied("before")},
}
CONSTRAIN = {stage.name: _line(stage) for stage in _stages.applied("after")}
AFTER = {
    "master": "store_master(a_master, i, p)",
    "kahan": "store_compensation(a_compensation, i, remainder(p, stored_p(p), xp))",
    "average": "store_average(a_average, i, average(load_average(a_average, i), p, keep, new, xp))",
}


def sweep_program(
    rule: Rule,
    stages: Sequence[str],
    streams: Sequence[tuple[str, str]],
    compute: str,
    stochastic: Collection[str] = (),
) -> Program:
    """Write the sweep: load, apply stages and rule, store.

    Parameters
    ----------
    rule : Rule
        The update rule.
    stages : sequence of str
        The stages to compile in, of `SWEPT`.
    streams : sequence of (str, str)
        ``g``, ``p``, the rule's slots as ``s0``, ``s1``, ..., then those of stages that there
        are, then the exponents of a coded slot ``s0`` as ``x_s0``; with the dtype of each in
        memory. All but ``g`` have a column of the pointer table.
    compute : str
        The compute dtype.
    stochastic : collection of str
        The slots that are rounded stochastically.

    Returns
    -------
    Program
        The program.
    """
    slots = [f"s{k}" for k in range(len(rule.slots))]
    coded = [name for name, storage in streams if storage in CODES]
    constants = [f"c{k}" for k in range(len(rule.coefficients))]
    used = [stage for stage in SWEPT if stage in stages]
    named = dict(zip(rule.coefficients, constants, strict=True))
    loop = [
        *(load_line(name, coded) for name in ("p", "g", *slots)),
        *(BEFORE[stage] for stage in used if stage in BEFORE),
        *_turn(rule, slots, named),
        *_carry_out(rule, slots, named, rule.masked or _stages.recalled(used)),
        *(["p = caution(q, p, g, boost, xp)"] if rule.masked else []),
        *(CONSTRAIN[stage] for stage in used if stage in CONSTRAIN),
        "store_p(a_p, i, p)",
        *(line for name in slots for line in _store(name, coded, stochastic)),
        *(AFTER[stage] for stage in used if stage in AFTER),
    ]
    scalars = [*constants, *(name for stage in used for name in SWEPT[stage])]
    grouped = bool(coded or stochastic)
    lines = _grouped(loop, streams, slots, stochastic) if grouped else _over("start", "stop", loop)
    pairs = (len(slots) + 1) // 2 if stochastic else 0
    body = [*head(streams, scalars, pairs), "if a_g:", *(f"    {line}" for line in lines)]
    names = [name for stage in used for name in FUNCTIONS.get(stage, (stage,))]
    functions = [
        ("rule", rule.function),
        *_directions(rule),
        *((name, getattr(_stages, name)) for name in names),
    ]
    more = [(f"w_{name}", "float32") for name in coded]
    more += [("noise", "word")] if stochastic else []
    return Program(framed(body), tuple(functions), (*streams, *more), compute)


def measure_program(
    rule: Rule, stages: Sequence[str], streams: Sequence[tuple[str, str]], compute: str
) -> Program:
    """Write the pass before a tensorwise sweep, which computes the rule's totals.

    Parameters
    ----------
    rule : Rule
        A rule with totals.
    stages : sequence of str
        The stages of the sweep, of `SWEPT`.
    streams : sequence of (str, str)
        As for `sweep_program`.
    compute : str
        The compute dtype.

    Returns
    -------
    Program
        The program; ``sums`` has a row for each chunk: sums of squares, then of values.
    """
    slots = [f"s{k}" for k in range(len(rule.slots))]
    coded = [name for name, storage in streams if storage in CODES]
    named = {name: f"c{k}" for k, name in enumerate(measuring(rule))}
    used = [stage for stage in SWEPT if stage in stages]
    scalars = [*named.values(), *(name for stage in used for name in SWEPT[stage])]
    what = [f"u{k}" for k in range(len(rule.norms) + len(rule.sums))]
    loop = [
        *(load_line(name, coded) for name in ("p", "g", *slots)),
        *(BEFORE[stage] for stage in used if stage in BEFORE),
        *_turn(rule, slots, named),
        *_measure(rule, slots, named, what),
        *(f"store_w_{u}(w_{u}, i - group, {u})" for u in what),
    ]
    lines = [f"end = min(group + {GROUP}, stop)", f"block = group // {GROUP}"]
    lines += [f"e_{name} = peek_int16(a_x_{name}, block)" for name in coded]
    lines += [
        *_over("group", "end", loop),
        *(
            f"add_{'squares' if k < len(rule.norms) else 'values'}_w_{u}(l_{u}, w_{u}, end - group)"
            for k, u in enumerate(what)
        ),
    ]
    body = [
        *head(streams, scalars),
        *(f"w_{u}, total_{u} = scratch(0), 0.0" for u in what),
        "if a_g:",
        f"    for run in range(start, stop, {RUN}):",
        *(f"        l_{u} = lanes(0)" for u in what),
        f"        for group in range(run, min(run + {RUN}, stop), {GROUP}):",
        *(f"            {line}" for line in lines),
        *(f"        total_{u} += lanes_total(l_{u})" for u in what),
        *(f"poke_double(sums, {len(what)} * c + {k}, total_{u})" for k, u in enumerate(what)),
    ]
    names = [name for stage in used for name in FUNCTIONS.get(stage, (stage,))]
    functions = [*_directions(rule), *((n, getattr(_stages, n)) for n in names)]
    functions += [("measure", rule.measure)] if rule.measure else []
    if rule.masked:
        functions += [("rule", rule.function), ("agreement", _stages.agreement)]
    more = [(f"w_{name}", "float32") for name in coded]
    more += [(f"w_{u}", compute) for u in what]
    return Program(framed(body), tuple(functions), (*streams, *more), compute)


def measuring(rule: Rule) -> tuple[str, ...]:
    """Return the coefficients of the pass before a tensorwise sweep."""
    own = rule.function_names if rule.masked else rule.measure_names
    return tuple(dict.fromkeys((*rule.direction_names, *own)))


def _carry_out(
    rule: Rule, slots: Sequence[str], constants: Mapping[str, str], recalled: bool
) -> list[str]:
    """Return the lines that apply the rule; the old parameter is kept if needed."""
    results = ", ".join(["p", *slots]) + ("" if slots else ",")
    arguments = ["p", "g", *slots, *(constants[name] for name in rule.function_names), "xp"]
    return [*(["q = p"] * recalled), f"{results} = rule({', '.join(arguments)})"]


def _measure(
    rule: Rule, slots: Sequence[str], constants: Mapping[str, str], what: Sequence[str]
) -> list[str]:
    """Return the lines that assign the totalled quantities to variables."""
    if rule.masked:
        return [*_carry_out(rule, slots, constants, True), f"{what[0]} = agreement(q, p, g, xp)"]
    if rule.measure is None:
        return [f"{what[0]}, {what[1]} = p, g"]
    arguments = ["p", "g", *slots, *(constants[name] for name in rule.measure_names), "xp"]
    return [f"{', '.join(what)}, = measure({', '.join(arguments)})"]


def _turn(rule: Rule, slots: Sequence[str], constants: Mapping[str, str]) -> list[str]:
    """Return the line that replaces the gradient with the direction, if there is one."""
    if rule.direction is None:
        return []
    results = ", ".join(["g", *slots]) + ("" if slots else ",")
    named = [constants[name] for name in rule.direction_names]
    return [f"{results} = direction({', '.join(['p', 'g', *slots, *named, 'xp'])})"]


def _directions(rule: Rule) -> list[tuple[str, Callable[..., Any]]]:
    return [] if rule.direction is None else [("direction", rule.direction)]


def head(streams: Sequence[tuple[str, str]], scalars: Sequence[str], pairs: int = 0) -> list[str]:
    """Return the lines that load a chunk's addresses and numbers, and keys for pairs of slots."""
    columns = [name for name, _ in streams[1:]]
    return [
        "a_g = peek(gradients, t)",
        *(f"a_{name} = peek(pointers, {len(columns)} * t + {k})" for k, name in enumerate(columns)),
        f"row = coefficients + {8 * len(scalars)} * peek(rows, t)",
        *(f"{name} = compute(peek_double(row, {k}))" for k, name in enumerate(scalars)),
        *(f"key{k} = random_key(seed, peek(leaves, t), {k})" for k in range(pairs)),
    ]


def _over(first: str, end: str, lines: Sequence[str]) -> list[str]:
    return [f"for i in range({first}, {end}):", *(f"    {line}" for line in lines)]


def _grouped(
    loop: Sequence[str],
    streams: Sequence[tuple[str, str]],
    slots: Sequence[str],
    stochastic: Collection[str],
) -> list[str]:
    """Return a loop over groups, as codes need the largest value of their group."""
    lines = [f"end = min(group + {GROUP}, stop)", f"block = group // {GROUP}"]
    for k in range((len(slots) + 1) // 2) if stochastic else ():
        lines += [f"group{k} = random_group(key{k}, block)", f"noise{k} = piece(noise, group{k})"]
    coded = {name: CODES[storage] for name, storage in streams if storage in CODES}
    for name in coded:
        lines += [f"e_{name} = peek_int16(a_x_{name}, block)", f"top_{name} = nothing(0)"]
    lines += _over("group", "end", loop)
    for name, largest in coded.items():
        lines += [
            f"e_{name} = exponent(top_{name}, {largest})",
            f"poke_int16(a_x_{name}, block, e_{name})",
            _encode(name, name in stochastic),
        ]
    return [
        *(f"w_{name} = scratch(0)" for name in coded),
        f"for group in range(start, stop, {GROUP}):",
        *(f"    {line}" for line in lines),
    ]


def load_line(name: str, coded: Sequence[str] = ()) -> str:
    """Return the line that loads an element; codes need their group's exponent."""
    return f"{name} = load_{name}(a_{name}, i{', e_' + name if name in coded else ''})"


def _store(name: str, coded: Sequence[str], stochastic: Collection[str]) -> list[str]:
    if name in coded:
        return [
            f"store_w_{name}(w_{name}, i - group, {name})",
            f"top_{name} = top(top_{name}, load_w_{name}(w_{name}, i - group))",
        ]
    if name in stochastic:
        pair, half = divmod(int(name[1:]), 2)
        bits = f"bits_noise(noise{pair}, i - group, group{pair}, {half})"
        return [f"chance_{name}(a_{name}, i, {name}, {bits})"]
    return [f"store_{name}(a_{name}, i, {name})"]


def _encode(name: str, by_chance: bool) -> str:
    """Return the line that encodes a group, with one half of the random bits of two slots."""
    group = f"a_{name} + group, w_{name}, end - group, e_{name}"
    if not by_chance:
        return f"nearest_{name}({group})"
    pair, half = divmod(int(name[1:]), 2)
    return f"{'upper' if half else 'lower'}_{name}({group}, noise{pair}, group{pair})"
