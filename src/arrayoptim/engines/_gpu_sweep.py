"""The text of the sweep: stages and rule on each element, for all tensors in one launch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from .. import _stages
from .._rule import Rule
from ._cpu_sweep import STAGE_SLOTS, STAGES
from ._gpu_prelude import PRELUDE
from ._gpu_printer import printed

__all__ = ["ITEMSIZE", "Program", "stages_of", "sweep_program"]

ITEMSIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
"""Bytes of the data types that kernels know."""

_TYPES = {"float16": "half_bits", "bfloat16": "bfloat_bits", "float32": "float"}
_TYPES |= {"float64": "double"}
_FUNCTIONS = {"master": ("heal",), "kahan": ("compensate", "remainder")}
_BEFORE = {
    "master": "narrow(master, q_p.x[k]); stage_heal(p, master, (real)widened(q_p.x[k]), p);",
    "kahan": "stage_compensate(p, compensation, p);",
    "clip": "stage_clip(g, c.scale, c.bound, g);",
    "couple": "stage_couple(g, p, c.l2, g);",
    "decay": "stage_decay(p, c.amount, p);",
}
_CONSTRAIN = {"box": "stage_box(p, c.floor, c.ceiling, p);"}
_AFTER = {
    "master": "master = p;",
    "kahan": "stage_remainder(p, (real)widened(q_p.x[k]), compensation);",
    "average": "stage_average(average, p, c.keep, c.new_, average);",
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
    """Say which stages a step has.

    Parameters
    ----------
    given : sequence of str
        Names of the numbers that the step has.
    slots : sequence of str
        Names of the slots.

    Returns
    -------
    tuple of str
        Names out of `STAGES`.
    """

    def used(stage: str) -> bool:
        slot = STAGE_SLOTS.get(stage)
        return (slot is None or slot in slots) and all(name in given for name in STAGES[stage])

    return tuple(stage for stage in STAGES if used(stage))


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
        The dtype of the arithmetic.

    Returns
    -------
    Program
        The kernel.

    Raises
    ------
    UnprintableError
        If the rule leaves the grammar.
    """
    constants = [f"c{k}" for k in range(len(rule.coefficients))]
    scalars = [name for stage in stages for name in STAGES[stage]]
    # Twice as many elements of 16 bits go into a load of 16 bytes.
    width = 16 // min(ITEMSIZE[dtype] for _, dtype in streams)
    functions = [printed(rule.function, "rule")]
    for stage in stages:
        names = _FUNCTIONS.get(stage, (stage,))
        functions += [printed(getattr(_stages, name), f"stage_{name}") for name in names]
    parts = [
        f"typedef {_TYPES[compute]} real;",
        *functions,
        _numbers([*constants, *scalars]),
        _element(len(rule.slots), constants, stages, streams),
        _kernel([*constants, *scalars], streams, width),
    ]
    text = "\n".join(parts)
    name = f"{rule.name}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    body = f"namespace of_{name} {{\n{text.replace('@NAME@', name)}\n}}\n"
    return Program(name, body, (*rule.coefficients, *scalars))


def _cpp(name: str) -> str:
    return "new_" if name == "new" else name


def _numbers(names: Sequence[str]) -> str:
    inner = "".join(f"    real {_cpp(name)};\n" for name in names)
    return f"struct Numbers {{\n{inner}}};\n"


def _element(
    slots: int, constants: Sequence[str], stages: Sequence[str], streams: Sequence[tuple[str, str]]
) -> str:
    """Write the step of some elements side by side."""
    own = [f"s{k}" for k in range(slots)]
    inputs = ["p", "g", *own, *(f"c.{name}" for name in constants), "p", *own]
    inner = [
        *(f"real {name} = (real)widened(q_{name}.x[k]);" for name, _ in streams),
        *(_BEFORE[stage] for stage in stages if stage in _BEFORE),
        f"rule({', '.join(inputs)});",
        *(_CONSTRAIN[stage] for stage in stages if stage in _CONSTRAIN),
        "narrow(p, q_p.x[k]);",
        *(_AFTER[stage] for stage in stages if stage in _AFTER),
        *(f"narrow({name}, q_{name}.x[k]);" for name, _ in streams[2:]),
    ]
    loads = [
        f"Pack<{_TYPES[d]}, V> q_{n} = *(const Pack<{_TYPES[d]}, V> *)(a_{n} + i);"
        for n, d in streams
    ]
    stores = [f"*(Pack<{_TYPES[d]}, V> *)(a_{n} + i) = q_{n};" for n, d in streams[1:]]
    pointers = ", ".join(f"{_TYPES[dtype]} *a_{name}" for name, dtype in streams)
    return "\n".join(
        [
            "template <int V>",
            f"FUNCTION void stepped(whole i, {pointers}, const Numbers &c) {{",
            *(f"    {line}" for line in loads),
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
    columns = [(name, dtype) for name, dtype in streams[1:]]
    arguments = "".join(f", double n_{name}" for name in numbers)
    fetched = [
        f"{_TYPES[dtype]} *a_{name} = ({_TYPES[dtype]} *)pointers[{len(columns)} * t + {k}];"
        for k, (name, dtype) in enumerate(columns)
    ]
    addresses = " | ".join(f"(whole)a_{name}" for name, _ in streams)
    called = ", ".join(f"a_{name}" for name, _ in streams)
    lines = [
        "const int t = chunks[2 * blockIdx.x];",
        f"{_TYPES[streams[0][1]]} *a_g = ({_TYPES[streams[0][1]]} *)gradients[leaves[t]];",
        "if (!a_g) return;",
        *fetched,
        f"const double *own = table ? table + {len(numbers)} * t : 0;",
        "Numbers c;",
        *(_scalar(k, name) for k, name in enumerate(numbers)),
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


def _scalar(k: int, name: str) -> str:
    """Take a number from the tensor's own row or from the arguments; there may be a norm to it."""
    value = f"(own ? own[{k}] : n_{name})"
    if name == "scale":
        value = f"(norm ? clip_factor(*norm, {value}) : {value})"
    return f"c.{_cpp(name)} = (real){value};"
