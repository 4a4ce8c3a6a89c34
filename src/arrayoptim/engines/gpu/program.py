"""What the source of every kernel has: types, functions, per-step scalars, a unique name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ...rules import stages as _stages
from ...rules.rule import Rule
from ...rules.stages import SLOTS, STAGES, UNITS
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
"""Dtypes of slots in 8-bit codes, unsigned and signed; a group of codes shares an exponent."""

EXPONENT = "int16"
"""The dtype of the exponents, one per group."""

SEED = ("seed_high", "seed_low")
"""Further scalars of a step that rounds stochastically: the halves of its seed."""

_FUNCTIONS = {"master": ("heal",), "kahan": ("compensate", "remainder"), "each": ()}
_FUNCTIONS |= dict.fromkeys(UNITS, ())
_NUMBERS = {stage.name: tuple(stage.numbers) for stage in STAGES}


@dataclass(frozen=True)
class Program:
    """The source of a kernel.

    Attributes
    ----------
    name : str
        Name of the kernel.
    body : str
        Its source without the prelude.
    numbers : tuple of str
        Names of the per-step scalars it takes, in order.
    """

    name: str
    body: str
    numbers: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The whole source, prelude included."""
        return PRELUDE + self.body


def stages_of(given: Sequence[str], slots: Sequence[str]) -> tuple[str, ...]:
    """Return the stages of a step.

    Parameters
    ----------
    given : sequence of str
        Names of the per-step scalars that the step has.
    slots : sequence of str
        Names of the slots.

    Returns
    -------
    tuple of str
        Names of `STAGES`.
    """

    def used(stage: str) -> bool:
        slot = SLOTS.get(stage)
        return (slot is None or slot in slots) and all(name in given for name in _NUMBERS[stage])

    return tuple(stage for stage in _NUMBERS if used(stage))


def numbers_of(rule: Rule, stages: Sequence[str], chance: bool = False) -> tuple[str, ...]:
    """Return the names of the per-step scalars that the kernels of a step take, in order.

    Parameters
    ----------
    rule : Rule
        The update rule.
    stages : sequence of str
        The stages of the step.
    chance : bool
        Whether slots are rounded stochastically.
    """
    scalars = [name for stage in stages for name in _NUMBERS[stage]]
    seed = SEED if chance else ()
    return tuple(dict.fromkeys((*rule.coefficients, *rule.given, *scalars, *seed)))


def opening(rule: Rule, stages: Sequence[str], compute: str) -> list[str]:
    """Return the source of a step's functions and of the struct of its scalars.

    Parameters
    ----------
    rule : Rule
        The update rule.
    stages : sequence of str
        The stages to compile in.
    compute : str
        The compute dtype.
    """
    # A rule for matrices has no function: its passes contain what it computes.
    functions = [] if rule.kind == "matrix" else [printed(rule.function, "rule")]
    functions += [printed(rule.direction, "direction")] if rule.direction else []
    for stage in stages:
        names = _FUNCTIONS.get(stage, (stage,))
        functions += [printed(getattr(_stages, name), f"stage_{name}") for name in names]
    numbers = "".join(f"    real {cpp(name)};\n" for name in numbers_of(rule, stages))
    return [f"typedef {TYPES[compute]} real;", *functions, f"struct Numbers {{\n{numbers}}};\n"]


def named(name: str, parts: Sequence[str], numbers: tuple[str, ...] = ()) -> Program:
    """Return a program made of these parts, with a name that is unique to its source."""
    text = "\n".join(parts)
    whole = f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    body = f"namespace of_{whole} {{\n{text.replace('@NAME@', whole)}\n}}\n"
    return Program(whole, body, numbers)


def cpp(name: str) -> str:
    """Return a name for C++: the underscore avoids clashes with keywords and macros."""
    return f"{name}_"
