"""Rules, shapes and programs for tests of the GPU engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from arrayoptim.engines.gpu.batches import program_of
from arrayoptim.engines.gpu.matrix_batches import pass_programs
from arrayoptim.engines.gpu.measure import quantities
from arrayoptim.engines.gpu.prelude import CHUNK
from arrayoptim.engines.gpu.program import SEED
from arrayoptim.engines.gpu.rows import row_program
from arrayoptim.numerics.slots import Layout
from arrayoptim.rules.cautious import cautious
from engine_cases import (
    PARTS,
    RULES,
    VALUES,
    coefficients,
)
from optimizers_under_test import make

FUSED = [rule for rule in dict.fromkeys(RULES) if rule.kind != "matrix"]

FUSED.append(cautious(make("Adam").rule))

IDS = [f"cautious_{rule.name}" if rule.masked else rule.name for rule in FUSED]

rules = pytest.mark.parametrize("rule", FUSED, ids=IDS)

SHAPES = [(3, 5), (), (0, 4), (2 * CHUNK + 13,), (17, 33), (1,), (CHUNK,)]

FORMS: list[tuple[str, str, dict[str, Any]]] = [
    ("float32", "float32", {}),
    ("float64", "float64", {}),
    ("float64", "float32", {"storage": "bfloat16"}),
    ("float32", "float64", {"storage": "bfloat16"}),
    ("float16", "float16", {"extras": ("master",)}),
    ("float16", "float32", {"extras": ("compensation",)}),
    ("bfloat16", "bfloat16", {"extras": ("master",), "storage": "bfloat16"}),
    ("bfloat16", "bfloat16", {"extras": ("compensation",)}),
    ("bfloat16", "float16", {}),
    ("complex64", "complex64", {}),
    ("float32", "float32", {"storage": "int8"}),
    ("float64", "float32", {"storage": "int8", "seed": 5}),
    ("bfloat16", "bfloat16", {"extras": ("master",), "storage": "int8", "seed": -7}),
    ("float32", "float32", {"storage": "bfloat16", "seed": 1 << 62}),
]

"""Data types of parameter and gradient, and how slots are stored and rounded."""

EXTENTS = [(), tuple(PARTS)]

"""Sets of stages that every form is tried with; float32 alone with each stage."""


def cases() -> Iterator[tuple[str, str, dict[str, Any], tuple[str, ...]]]:
    """Yield data types, storage and stages."""
    yield from ((*form, stages) for form in FORMS for stages in EXTENTS)
    yield from (("float32", "float32", {}, (stage,)) for stage in PARTS)


def layout_of(rule: Any, form: dict[str, Any], stages: tuple[str, ...]) -> Layout:
    """Return the slots of a case."""
    extras = (*form.get("extras", ()), *["average"] * ("average" in stages))
    return Layout(rule, extras, form.get("storage"))


def numbers(rule: Any, stages: tuple[str, ...], seed: int = 3) -> dict[str, float]:
    """Return the numbers of a step."""
    return coefficients(rule, seed) | {name: VALUES[name] for s in stages for name in PARTS[s]}


def programs(rule: Any) -> list[Any]:
    """Return the kernels of all cases of a rule."""
    found = []
    for dtype, grad, form, stages in cases():
        slots = layout_of(rule, form, stages).slots(dtype)
        seed = SEED if "seed" in form else ()
        given = rule, {"p": dtype, **slots}, (*numbers(rule, stages), *seed), grad
        found += [row_program(*given)[0]] if rule.kind == "elementwise" and not form else []
        found += [
            program_of(*given, measures=measures) for measures in {False, bool(quantities(rule))}
        ]
    return found


def matrix_programs(rule: Any) -> list[Any]:
    """Return the kernels of all cases of a rule with totals along rows and columns."""
    found = []
    for dtype, grad, form, stages in matrix_forms():
        slots = layout_of(rule, form, stages).slots(dtype)
        given = rule, {"p": dtype, **slots}, tuple(numbers(rule, stages)), grad
        found += [program for program, _ in pass_programs(*given)]
    return found


def matrix_forms() -> Iterator[tuple[str, str, dict[str, Any], tuple[str, ...]]]:
    """Yield those of `cases` in which rows and columns are stepped; most with every stage only."""
    for dtype, grad, form, stages in cases():
        served = "storage" not in form and not dtype.startswith("complex")
        if served and (dtype == "float32" or len(stages) == len(PARTS)):
            yield dtype, grad, form, stages


def adam() -> Any:
    """Return a rule to test with what does not depend on the rule."""
    return make("Adam").rule
