"""The GPU engine's kernels, through the host's C++ compiler, give the array engine's bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.engines import Step, sweep
from arrayoptim.engines.gpu.arrays import LIBRARIES
from arrayoptim.engines.gpu.engine import Plan
from arrayoptim.gradients import global_norm
from arrayoptim.numerics.int8 import encode
from arrayoptim.numerics.slots import EXPONENTS, Layout
from arrayoptim.numerics.sums import BLOCK, sum_of_squares
from arrayoptim.rules.nonnegative import nonnegative_slots
from backends import np_dtype
from engine_cases import (
    column,
    copies,
    draw,
    state_of,
    typed,
)
from gpu_cases import SHAPES, adam, cases, layout_of, numbers, programs, rules
from gpu_on_host import NumPyOnHost, compiler, off_by_one
from optimizers_under_test import make, same

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")


def slots_of(layout: Layout, dtype: str, params: list[Any]) -> list[dict[str, Any]]:
    """Return slots that are not zero, in the form in which they are stored."""
    kinds = {name: k for name, k in layout.slots(dtype).items() if not name.endswith(EXPONENTS)}
    shapes, signs = [p.shape for p in params], nonnegative_slots(layout.rule)
    drawn = {}
    for k, (name, kind) in enumerate(kinds.items()):
        drawn[name] = draw(7 + k, shapes, "float32" if kind == "uint8" else kind, positive=True)
        if kind == "uint8":
            signed = not signs[layout.rule.slots.index(name)]
            pairs = [encode(x, signed) for x in drawn[name]]
            drawn[name], drawn[name + EXPONENTS] = map(list, zip(*pairs, strict=True))
    if "compensation" in drawn:
        small = (np.asarray(x * x.dtype.type(1e-3)) for x in drawn["compensation"])
        drawn["compensation"] = list(small)
    if "master" in drawn:
        drawn["master"] = [p.astype(np.float32) for p in params]
    return [{name: arrays[k] for name, arrays in drawn.items()} for k in range(len(params))]


@rules
def test_every_rule_bit_for_bit(rule: Any, host: NumPyOnHost) -> None:
    """In every form and with every stage, at odd sizes, aligned or not: the array engine's bits."""
    host.devices[0].compile(programs(rule))
    for number, (dtype, grad, form, stages) in enumerate(cases()):
        layout = layout_of(rule, form, stages)
        params = draw(1, SHAPES, dtype)
        slots = slots_of(layout, dtype, params)
        mine, state = [p.copy() for p in params], copies(slots)
        if number % 2:
            mine = [off_by_one(p) for p in mine]
        plan = Plan(rule, mine, state)
        for step in range(2):
            grads, values = draw(20 + step, SHAPES, grad), numbers(rule, stages, step)
            seed = form["seed"] + step if "seed" in form else None
            whole = Step(layout, typed(values), seed, range(len(params)))
            new, after = sweep(whole, params, grads, slots)
            params, slots = list(new), list(after)
            plan.prepare(grads, typed(values), seed)()
            same(mine, params)
            same(column(state), column(slots))


def test_special_values_bit_for_bit(host: NumPyOnHost) -> None:
    """NaN, infinities, subnormal numbers and zeros of either sign, through every function."""

    @ao.rule(slots=("a", "b"))
    def everything(p, g, a, b, c, d, xp):  # type: ignore[no-untyped-def]
        a = xp.maximum(a, g) - xp.minimum(p, g) * xp.sign(b)
        new = xp.abs(p) > xp.abs(g)
        b = xp.where(new, xp.copysign(xp.square(p), g), xp.sqrt(-b))
        return p + c * a / d, a, -b

    special = np.array([0.0, -0.0, 1.0, -1.5, 1e-40, -1e-45, 3e38, math.inf, -math.inf, math.nan])
    grid = np.stack(np.meshgrid(*[special] * 4), axis=-1).reshape(-1, 4).T
    params, grads, a, b = (np.ascontiguousarray(x, np.float32) for x in grid)
    with np.errstate(all="ignore"):
        wanted = everything(params, grads, a, b, np.float32(0.3), np.float32(0.7), np)
    plan = Plan(everything, [params], [{"a": a, "b": b}])
    plan.prepare([grads], typed({"c": 0.3, "d": 0.7}))()
    for found, want in zip((params, a, b), wanted, strict=True):
        np.testing.assert_array_equal(np.isnan(found), np.isnan(want))
        known = ~np.isnan(want)
        same([found[known]], [want[known]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits(dtype: str, host: NumPyOnHost) -> None:
    """Every 16-bit number widens, and float32 between and at them rounds, as in NumPy."""

    @ao.rule()
    def taken(p, g, one, xp):  # type: ignore[no-untyped-def]
        return (g * one,)

    every = np.arange(1 << 16, dtype=np.uint16).view(np_dtype(dtype))
    wide = np.zeros(every.size, np.float32)
    Plan(taken, [wide], [{}]).prepare([every], typed({"one": 1.0}))()
    finite = np.sort(wide[np.isfinite(wide)])
    middle = finite[:-1] + np.diff(finite) / 2
    around = [np.nextafter(middle, np.float32(way)) for way in (-np.inf, np.inf)]
    edges = np.float32([65519.99, 65520, 3.4e38, 1e-45, -1e-45, np.inf, -np.inf, np.nan])
    floats = np.concatenate([finite, middle, *around, edges]).astype(np.float32)
    narrow = np.zeros(floats.size, np_dtype(dtype))
    Plan(taken, [narrow], [{}]).prepare([floats], typed({"one": 1.0}))()
    with np.errstate(over="ignore"):
        for found, want in (
            (wide, every.astype(np.float32)),
            (narrow, floats.astype(narrow.dtype)),
        ):
            known = ~np.isnan(want)
            np.testing.assert_array_equal(np.isnan(found), ~known)
            same([found[known]], [want[known]])


NORM_SHAPES = [*SHAPES, (BLOCK,), (BLOCK + 1,), (3 * BLOCK + 7,)]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_norm_bit_for_bit(dtype: str, backwards: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums and norm follow the specification, and no thread depends on another of its phase."""
    library = NumPyOnHost(backwards)
    monkeypatch.setitem(LIBRARIES, "numpy", library)
    params, grads = draw(1, NORM_SHAPES, dtype), draw(2, NORM_SHAPES, dtype)
    plan = Plan(adam(), params, state_of(adam(), NORM_SHAPES, dtype))
    grads[4] = None
    sums = [0.0 if g is None else sum_of_squares(g) for g in grads]
    for _ in range(2):
        table = plan.norm(grads)
        assert table is not None
        assert table.memory[0] == global_norm(grads)
        assert plan.sums_of_squares(grads)[0] == sums


@pytest.mark.parametrize("scale", [1e200, 1e-200, 0.0, math.inf, math.nan])
def test_norm_of_extreme_gradients(scale: float, host: NumPyOnHost) -> None:
    """Squares that overflow or vanish do not, and what is not finite shows."""
    grads = [np.array([3.0, 4.0]) * scale, np.ones(3, np.float32) * np.float32(min(scale, 1.0))]
    plan = Plan(make("SGD").rule, [np.zeros(2), np.zeros(3, np.float32)], state_of_sgd())
    table = plan.norm(grads)
    assert table is not None
    np.testing.assert_array_equal(table.memory[0], global_norm(grads))


def state_of_sgd() -> list[dict[str, Any]]:
    """Return the slots of two parameters."""
    return [{"momentum": np.zeros(2)}, {"momentum": np.zeros(3, np.float32)}]
