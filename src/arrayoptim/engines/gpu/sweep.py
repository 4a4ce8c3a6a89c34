"""The text of the sweep: stages and rule on each element, for all tensors in one launch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...arrays.backend import ITEMSIZE
from ...numerics.int8 import GROUP
from ...numerics.slots import EXPONENTS
from ...rules import stages as _stages
from ...rules.rule import Rule
from ...rules.stages import SLOTS, SWEPT
from .prelude import PRELUDE
from .printer import printed

__all__ = [
    "CODES",
    "EXPONENT",
    "GROUP",
    "SEED",
    "TYPES",
    "Program",
    "before",
    "called",
    "carried_out",
    "element",
    "fetched",
    "loaded",
    "named",
    "narrowed",
    "numbers_of",
    "opening",
    "parameters",
    "scalar",
    "stages_of",
    "sweep_program",
]

TYPES = {"float16": "half_bits", "bfloat16": "bfloat_bits", "float32": "float"}
TYPES |= {"float64": "double", "uint8": "plain_code", "int8": "signed_code", "int16": "short"}

CODES = frozenset({"uint8", "int8"})
"""Slots in 8-bit codes, without and with a sign, which share an exponent in groups."""

EXPONENT = "int16"
"""The type of the exponents, of which there is one for a group."""

SEED = ("seed_high", "seed_low")
"""Numbers of a step that rounds stochastically: the halves of its seed."""
_FUNCTIONS = {"master": ("heal",), "kahan": ("compensate", "remainder")}


def _line(stage: _stages.Stage) -> str:
    """Return the statement of a stage that is simply a function."""
    assert stage.function is not None
    target, numbers = stage.operands[0], (f"c.{name}_" for name in stage.numbers)
    arguments = ", ".join((*stage.operands, *numbers, target))
    return f"stage_{stage.function.__name__}({arguments});"


_BEFORE = {
    "master": "narrow(master, q_p.x[k]); stage_heal(p, master, (real)widened(q_p.x[k]), p);",
    "kahan": "stage_compensate(p, compensation, p);",
    **{stage.name: _line(stage) for stage in _stages.applied("before")},
}
_CONSTRAIN = {stage.name: _line(stage) for stage in _stages.applied("after")}
_AFTER = {
    "master": "master = p;",
    "kahan": "stage_remainder(p, (real)widened(q_p.x[k]), compensation);",
    "average": "stage_average(average, p, c.keep_, c.new_, average);",
}


@dataclass(frozen=True)
class Program:
    """The text of a kernel.

    Attributes
    ----------
    name : str
        What the kernel is called.
    body : str
        Its text without what all begin with.
    numbers : tuple of str
        The numbers it takes, in order.
    """

    name: str
    body: str
    numbers: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The whole text."""
        return PRELUDE + self.body


def stages_of(given: Sequence[str], slots: Sequence[str]) -> tuple[str, ...]:
    """Return the stages of a step.

    Parameters
    ----------
    given : sequence of str
        Names of the numbers that the step has.
    slots : sequence of str
        Names of the slots.

    Returns
    -------
    tuple of str
        Names out of `SWEPT`.
    """

    def used(stage: str) -> bool:
        slot = SLOTS.get(stage)
        return (slot is None or slot in slots) and all(name in given for name in SWEPT[stage])

    return tuple(stage for stage in SWEPT if used(stage))


def sweep_program(
    rule: Rule, stages: Sequence[str], streams: Sequence[tuple[str, str]], compute: str
) -> Program:
    """Write the sweep: load, apply stages and rule, store.

    Parameters
    ----------
    rule : Rule
        The update rule.
    stages : sequence of str
        The stages to compile in.
    streams : sequence of (str, str)
        ``g``, ``p``, the rule's slots as ``s0``, ``s1``, ..., then the slots of stages; with the
        dtype of each in memory. All but ``g`` have a column of the pointer table.
    compute : str
        The compute dtype.

    Returns
    -------
    Program
        The kernel.

    Raises
    ------
    UnprintableError
        If the rule leaves the grammar.
    """
    names = numbers_of(rule, stages)
    # Twice as many 16-bit elements fit into a load of 16 bytes.
    width = 16 // min(ITEMSIZE[dtype] for _, dtype in streams)
    parts = [
        *opening(rule, stages, compute),
        element(rule, stages, streams),
        _kernel(names, streams, width),
    ]
    return named(rule.name, parts, names)


def numbers_of(rule: Rule, stages: Sequence[str], chance: bool = False) -> tuple[str, ...]:
    """Return the names of the numbers that the kernels of a step take, in order.

    Parameters
    ----------
    rule : Rule
        The update rule.
    stages : sequence of str
        The stages of the step.
    chance : bool
        Whether slots are rounded stochastically.
    """
    scalars = [name for stage in stages for name in SWEPT[stage]]
    seed = SEED if chance else ()
    return tuple(dict.fromkeys((*rule.coefficients, *rule.given, *scalars, *seed)))


def opening(rule: Rule, stages: Sequence[str], compute: str) -> list[str]:
    """Return the functions of a step, and its numbers.

    Parameters
    ----------
    rule : Rule
        The update rule.
    stages : sequence of str
        The stages to compile in.
    compute : str
        The compute dtype.
    """
    # What a rule for matrices computes is written out in each of its passes.
    functions = [] if rule.kind == "matrix" else [printed(rule.function, "rule")]
    functions += [printed(rule.direction, "direction")] if rule.direction else []
    for stage in stages:
        names = _FUNCTIONS.get(stage, (stage,))
        functions += [printed(getattr(_stages, name), f"stage_{name}") for name in names]
    numbers = "".join(f"    real {_cpp(name)};\n" for name in numbers_of(rule, stages))
    return [f"typedef {TYPES[compute]} real;", *functions, f"struct Numbers {{\n{numbers}}};\n"]


def named(name: str, parts: Sequence[str], numbers: tuple[str, ...] = ()) -> Program:
    """Return the parts of a kernel as a program with a unique name."""
    text = "\n".join(parts)
    whole = f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    body = f"namespace of_{whole} {{\n{text.replace('@NAME@', whole)}\n}}\n"
    return Program(whole, body, numbers)


def _cpp(name: str) -> str:
    # An underscore keeps Python's names from clashing with C++ keywords and macros.
    return f"{name}_"


def before(rule: Rule, stages: Sequence[str], streams: Sequence[tuple[str, str]]) -> list[str]:
    """Write what precedes the rule: stages, and the direction.

    Parameters
    ----------
    rule : Rule
        The update rule.
    stages : sequence of str
        The stages of the step.
    streams : sequence of (str, str)
        As for `sweep_program`; the values stand in ``q_<name>.x[k]``.
    """
    own = [f"s{k}" for k in range(len(rule.slots))]
    lines = [_value(name, dtype) for name, dtype in streams if dtype != EXPONENT]
    lines += [_BEFORE[stage] for stage in stages if stage in _BEFORE]
    if rule.direction is not None:
        lines.append(called("direction", own, rule.direction_names, ["g", *own]))
    return lines


def carried_out(rule: Rule, recalled: bool) -> list[str]:
    """Write the rule itself; the parameter as it was is kept where it is needed."""
    own = [f"s{k}" for k in range(len(rule.slots))]
    return [
        *(["const real q = p;"] * recalled),
        called("rule", own, rule.function_names, ["p", *own]),
    ]


def called(
    function: str, slots: Sequence[str], names: Sequence[str], results: Sequence[str]
) -> str:
    """Write the call of a function of parameter, gradient, slots and numbers."""
    arguments = ["p", "g", *slots, *(f"c.{_cpp(name)}" for name in names), *results]
    return f"{function}({', '.join(arguments)});"


def _value(name: str, dtype: str) -> str:
    stored = f"q_{name}.x[k]"
    if dtype in CODES:
        return f"real {name} = (real)decoded({stored}, q_{name}{EXPONENTS});"
    return f"real {name} = (real)widened({stored});"


def loaded(streams: Sequence[tuple[str, str]], width: int | str) -> list[str]:
    """Write how some elements side by side are loaded, and the exponents of codes."""
    return [
        f"const int q_{name} = a_{name}[i / {GROUP}];"
        if dtype == EXPONENT
        else f"Pack<{TYPES[dtype]}, {width}> q_{name} = "
        f"*(const Pack<{TYPES[dtype]}, {width}> *)(a_{name} + i);"
        for name, dtype in streams
    ]


def parameters(streams: Sequence[tuple[str, str]]) -> str:
    """Write the addresses that a function of elements takes."""
    return ", ".join(f"{TYPES[dtype]} *a_{name}" for name, dtype in streams)


def narrowed(name: str, dtype: str) -> str:
    """Write how a new value of a slot becomes what is stored of it."""
    return f"narrow({name}, q_{name}.x[k]);"


def element(
    rule: Rule,
    stages: Sequence[str],
    streams: Sequence[tuple[str, str]],
    ends: Callable[[str, str], str] = narrowed,
    given: str = "",
    middle: Sequence[str] | None = None,
) -> str:
    """Write the step of some elements side by side.

    Parameters
    ----------
    rule : Rule
        The update rule.
    stages : sequence of str
        The stages of the step.
    streams : sequence of (str, str)
        As for `sweep_program`.
    ends : callable
        Writes what becomes of the new value of a slot, given its stream.
    given : str
        Further parameters of the function, for that or for the rule.
    middle : sequence of str, optional
        The rule itself; by default the call of its function.
    """
    if middle is None:
        middle = carried_out(rule, rule.masked or _stages.recalled(stages))
    inner = [
        *before(rule, stages, streams),
        *middle,
        *(["stage_caution(q, p, g, c.boost_, p);"] * rule.masked),
        *(_CONSTRAIN[stage] for stage in stages if stage in _CONSTRAIN),
        "narrow(p, q_p.x[k]);",
        *(_AFTER[stage] for stage in stages if stage in _AFTER),
        *(ends(name, dtype) for name, dtype in streams[2:] if dtype != EXPONENT),
    ]
    stores = [
        f"*(Pack<{TYPES[d]}, V> *)(a_{n} + i) = q_{n};"
        for n, d in streams[1:]
        if d not in {*CODES, EXPONENT}
    ]
    return "\n".join(
        [
            "template <int V>",
            f"FUNCTION void stepped(whole i, {parameters(streams)}, const Numbers &c{given}) {{",
            *(f"    {line}" for line in loaded(streams, "V")),
            "#pragma unroll",
            "    for (int k = 0; k < V; ++k) {",
            *(f"        {line}" for line in inner),
            "    }",
            *(f"    {line}" for line in stores),
            "}\n",
        ]
    )


def _kernel(numbers: Sequence[str], streams: Sequence[tuple[str, str]], width: int) -> str:
    """Write the kernel: each block finds its chunk, and steps it in packs where it is aligned."""
    arguments = "".join(f", double n_{name}" for name in numbers)
    addresses = " | ".join(f"(whole)a_{name}" for name, _ in streams)
    called = ", ".join(f"a_{name}" for name, _ in streams)
    lines = [
        "const int t = chunks[2 * blockIdx.x];",
        *fetched(streams),
        "if (!a_g) return;",
        # Before the rows stands the length of a tensor's own row: 0 where all share one.
        "const double *own = table ? table + 1 + (whole)table[0] * t : 0;",
        "Numbers c;",
        *(scalar(k, name, f"(own ? own[{k}] : n_{name})") for k, name in enumerate(numbers)),
        "const whole start = (whole)CHUNK * chunks[2 * blockIdx.x + 1], size = sizes[t];",
        "const whole stop = size - start < CHUNK ? size : start + CHUNK;",
        f"const bool aligned = (({addresses}) & 15) == 0;",
        f"const whole packed = aligned ? stop - (stop - start) % {width} : start;",
        "EACH_THREAD(u) {",
        f"    for (whole i = start + {width} * u; i < packed; i += {width} * THREADS)",
        f"        stepped<{width}>(i, {called}, c);",
        "    for (whole i = packed + u; i < stop; i += THREADS)",
        f"        stepped<1>(i, {called}, c);",
        "}",
    ]
    return "\n".join(
        [
            "KERNEL @NAME@(",
            "    const int *chunks, const whole *sizes, const int *leaves, const whole *pointers,",
            f"    const whole *gradients, const double *norm, const double *table{arguments}) {{",
            *(f"    {line}" for line in lines),
            "}",
        ]
    )


def fetched(streams: Sequence[tuple[str, str]]) -> list[str]:
    """Write how the addresses of tensor ``t`` are found; its gradient may be missing."""
    kinds = [(name, TYPES[dtype]) for name, dtype in streams]
    lines = [f"{kinds[0][1]} *a_g = ({kinds[0][1]} *)gradients[leaves[t]];"]
    return lines + [
        f"{kind} *a_{name} = ({kind} *)pointers[{len(kinds) - 1} * t + {k}];"
        for k, (name, kind) in enumerate(kinds[1:])
    ]


def scalar(k: int, name: str, value: str) -> str:
    """Write how a number is read; a norm may scale it.

    Parameters
    ----------
    k : int
        Which it is.
    name : str
        What it is called.
    value : str
        Where it stands.
    """
    if name == "scale":
        value = f"(norm ? clip_factor(*norm, {value}) : {value})"
    return f"c.{_cpp(name)} = (real){value};"
