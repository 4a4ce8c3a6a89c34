"""Arrays, numbers and rules for tests of the fused engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arrayoptim.engines import Step, sweep
from arrayoptim.numerics.slots import Layout
from arrayoptim.numerics.sums import BLOCK
from backends import np_dtype
from optimizers_under_test import CASES, make, rules_of

SHAPES = [(3, 5), (), (0, 4), (2 * BLOCK + 4465,), (17, 33), (1,), (40, 41)]

VALUES = {"scale": 0.37, "bound": 0.5, "l2": 0.01, "amount": 1e-3, "keep": 0.99, "new": 0.01}

PARTS = {
    "clip": ("scale", "bound"),
    "couple": ("l2",),
    "decay": ("amount",),
    "average": ("keep", "new"),
}

RULES = [rule for rule in rules_of(CASES) if rule.kind != "matrix"]

rules = pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])


def draw(seed: int, shapes: list[Any], dtype: str, positive: bool = False) -> list[Any]:
    """Return arrays with a spread of magnitudes, with zeros of either sign."""
    rng = np.random.default_rng(seed)
    arrays = []
    for shape in shapes:
        value = np.asarray(rng.normal(size=shape) * 10.0 ** rng.uniform(-4, 1, shape))
        value = np.where(rng.random(shape) < 0.05, np.copysign(0.0, value), value)
        value = np.abs(value) if positive else value
        if dtype.startswith("complex"):
            part = rng.normal(size=shape)
            value = value + 1j * (np.abs(part) if positive else part)
        arrays.append(np.asarray(value).astype(np_dtype(dtype)))
    return arrays


def state_of(rule: Any, shapes: list[Any], dtype: str, *more: str) -> list[dict[str, Any]]:
    """Return slots that are not zero, as they are after some steps."""
    kind = "float32" if np_dtype(dtype).itemsize == 2 else dtype
    names = (*rule.slots, *more)
    columns = [draw(7 + k, shapes, kind, positive=True) for k in range(len(names))]
    drawn = dict(zip(names, columns, strict=True))
    return [{name: arrays[k] for name, arrays in drawn.items()} for k in range(len(shapes))]


def coefficients(rule: Any, seed: int = 3) -> dict[str, float]:
    """Return a number for each coefficient of a rule, not exact in float32 unless it is a zero."""
    rng = np.random.default_rng(seed)
    drawn = {name: float(rng.uniform(0.001, 0.999)) for name in rule.given}
    return drawn | dict.fromkeys({"zero"} & set(drawn), 0.0)


def typed(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the same numbers for each type of arithmetic."""
    return dict.fromkeys(("float32", "float64"), values)


def copies(slots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the slots in memory of their own."""
    return [{name: array.copy(order="K") for name, array in slot.items()} for slot in slots]


def column(slots: list[dict[str, Any]]) -> list[Any]:
    """Return all slots in one list."""
    return [slot[name] for slot in slots for name in sorted(slot)]


def by_arrays(
    rule: Any, values: dict[str, float], params: list[Any], grads: list[Any], slots: list[Any]
) -> tuple[list[Any], list[Any]]:
    """Return parameters and slots after a step by the array engine."""
    step = Step(Layout(rule), typed(values), None, range(len(params)))
    new, state = sweep(step, params, grads, slots)
    return list(new), list(state)


def adam() -> Any:
    """Return a rule to test with what does not depend on the rule."""
    return make("Adam").rule
