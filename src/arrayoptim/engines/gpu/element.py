"""The source of the elementwise step: loads, stages, rule, stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ...numerics.int8 import GROUP
from ...numerics.slots import EXPONENTS
from ...rules import stages as _stages
from ...rules.rule import Rule
from .program import CODES, EXPONENT, SEED, TYPES, cpp

__all__ = [
    "addressed",
    "before",
    "begun",
    "called",
    "carried_out",
    "element",
    "fetched",
    "loaded",
    "narrowed",
    "parameters",
    "scalars",
    "scaled",
]


def _line(stage: _stages.Stage) -> str:
    """Return the statement of a stage that is a single function call."""
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


def before(rule: Rule, stages: Sequence[str], streams: Sequence[tuple[str, str]]) -> list[str]:
    """Write what precedes the rule: the stages before it, and the direction.

    Parameters
    ----------
    rule : Rule
        The update rule.
    stages : sequence of str
        The stages of the step.
    streams : sequence of (str, str)
        As for `sweep_program`; the loaded values are in ``q_<name>.x[k]``.
    """
    own = [f"s{k}" for k in range(len(rule.slots))]
    lines = [_value(name, dtype) for name, dtype in streams if dtype != EXPONENT]
    lines += [_BEFORE[stage] for stage in stages if stage in _BEFORE]
    if rule.direction is not None:
        lines.append(called("direction", own, rule.direction_names, ["g", *own]))
    return lines


def carried_out(rule: Rule, recalled: bool) -> list[str]:
    """Write the call of the rule; if `recalled`, the old parameter is kept as ``q``."""
    own = [f"s{k}" for k in range(len(rule.slots))]
    return [
        *(["const real q = p;"] * recalled),
        called("rule", own, rule.function_names, ["p", *own]),
    ]


def called(
    function: str, slots: Sequence[str], names: Sequence[str], results: Sequence[str]
) -> str:
    """Write the call of a function of parameter, gradient, slots and per-step scalars."""
    arguments = ["p", "g", *slots, *(f"c.{cpp(name)}" for name in names), *results]
    return f"{function}({', '.join(arguments)});"


def _value(name: str, dtype: str) -> str:
    stored = f"q_{name}.x[k]"
    if dtype in CODES:
        return f"real {name} = (real)decoded({stored}, q_{name}{EXPONENTS});"
    return f"real {name} = (real)widened({stored});"


def loaded(streams: Sequence[tuple[str, str]], width: int | str) -> list[str]:
    """Write the vectorized loads of contiguous elements, and of the exponents of codes."""
    return [
        f"const int q_{name} = a_{name}[i / {GROUP}];"
        if dtype == EXPONENT
        else f"Pack<{TYPES[dtype]}, {width}> q_{name} = "
        f"*(const Pack<{TYPES[dtype]}, {width}> *)(a_{name} + i);"
        for name, dtype in streams
    ]


def parameters(streams: Sequence[tuple[str, str]]) -> str:
    """Write the pointer parameters of an elementwise function."""
    return ", ".join(f"{TYPES[dtype]} *a_{name}" for name, dtype in streams)


def narrowed(name: str, dtype: str) -> str:
    """Write the conversion of a slot's new value to its dtype in memory."""
    return f"narrow({name}, q_{name}.x[k]);"


def element(
    rule: Rule,
    stages: Sequence[str],
    streams: Sequence[tuple[str, str]],
    ends: Callable[[str, str], str] = narrowed,
    given: str = "",
    middle: Sequence[str] | None = None,
) -> str:
    """Write the function that steps a pack of contiguous elements.

    Parameters
    ----------
    rule : Rule
        The update rule.
    stages : sequence of str
        The stages of the step.
    streams : sequence of (str, str)
        As for `sweep_program`.
    ends : callable
        Writes the conversion of a slot's new value, given its stream.
    given : str
        Further parameters of the function, for the use of `ends` or `middle`.
    middle : sequence of str, optional
        The lines of the rule; by default the call of its function.
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


def fetched(streams: Sequence[tuple[str, str]]) -> list[str]:
    """Write the loads of tensor ``t``'s addresses; that of its gradient may be 0."""
    kinds = [(name, TYPES[dtype]) for name, dtype in streams]
    lines = [f"{kinds[0][1]} *a_g = ({kinds[0][1]} *)gradients[leaves[t]];"]
    return lines + [
        f"{kind} *a_{name} = ({kind} *)pointers[{len(kinds) - 1} * t + {k}];"
        for k, (name, kind) in enumerate(kinds[1:])
    ]


def addressed(streams: Sequence[tuple[str, str]], joint: str = ", ", kind: str = "") -> str:
    """Write the pointers of all streams, joined by `joint`."""
    return joint.join(f"{kind}a_{name}" for name, _ in streams)


def begun(streams: Sequence[tuple[str, str]], names: Sequence[str]) -> list[str]:
    """Write how a block of tensor ``t`` begins: load addresses and scalars, or return early."""
    # The table begins with the length of a tensor's row, 0 if all tensors share one row.
    own = "const double *own = table ? table + 1 + (whole)table[0] * t : 0;"
    columns = [(k, name) for k, name in enumerate(names) if name not in SEED]
    numbers = scalars({name: f"(own ? own[{k}] : n_{name})" for k, name in columns})
    return [*fetched(streams), "if (!a_g) return;", own, "Numbers c;", *numbers]


def scalars(values: Mapping[str, str]) -> list[str]:
    """Write the loads of per-step scalars.

    Parameters
    ----------
    values : mapping of str to str
        The expression that reads each scalar, by its name.
    """
    values = {**values, **({"scale": scaled(values)} if "scale" in values else {})}
    return [f"c.{cpp(name)} = (real){value};" for name, value in values.items()]


def scaled(values: Mapping[str, str]) -> str:
    """Write the factor of tensor ``t``'s gradient; bounds become clip factors if there are norms.

    Parameters
    ----------
    values : mapping of str to str
        As for `scalars`.
    """
    value = values["scale"]
    value = f"(norm ? clip_factor(*norm, {value}) : {value})"
    if "tensor_bound" not in values:
        return value
    return f"clipped_alone({value}, norms[leaves[t]], {values['tensor_bound']})"
