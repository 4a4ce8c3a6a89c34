"""What every kernel's text has: types, functions, numbers, a name of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ...rules import stages as _stages
from ...rules.rule import Rule
from ...rules.stages import SLOTS, SWEPT
from .prelude import PRELUDE
from .printer import printed

__all__ = [
    "CODES",
    "EXPONENT",
    "Program",
    "SEED",
    "TYPES",
    "cpp",
    "named",
    "numbers_of",
    "opening",
    "stages_of",
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
    numbers = "".join(f"    real {cpp(name)};\n" for name in numbers_of(rule, stages))
    return [f"typedef {TYPES[compute]} real;", *functions, f"struct Numbers {{\n{numbers}}};\n"]


def named(name: str, parts: Sequence[str], numbers: tuple[str, ...] = ()) -> Program:
    """Return the parts of a kernel as a program with a unique name."""
    text = "\n".join(parts)
    whole = f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    body = f"namespace of_{whole} {{\n{text.replace('@NAME@', whole)}\n}}\n"
    return Program(whole, body, numbers)


def cpp(name: str) -> str:
    """Return a name for the text: an underscore keeps it apart from C++ keywords and macros."""
    return f"{name}_"
