"""The CPU engine gives what the array engine gives, to the last bit."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.engines.cpu import native as _cpu_native
from arrayoptim.engines.cpu import recipes as _cpu_recipes
from arrayoptim.engines.cpu.engine import Plan
from arrayoptim.engines.cpu.sweep import sweep_program
from arrayoptim.numerics.sums import BLOCK, nonfinite, sum_of_squares, sum_of_values
from arrayoptim.rules import stages
from backends import np_dtype
from engine_cases import (
    SHAPES,
    VALUES,
    adam,
    by_arrays,
    coefficients,
    column,
    copies,
    draw,
    rules,
    state_of,
    typed,
)
from optimizers_under_test import same


def specified(
    rule: Any, values: dict[str, float], p: np.ndarray, g: np.ndarray, slots: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return a step by NumPy, stage by stage."""
    c = {name: p.dtype.type(value) for name, value in values.items()}
    if "scale" in c:
        g = stages.clip(g, c["scale"], c["bound"], np)
    if "l2" in c:
        g = stages.couple(g, p, c["l2"], np)
    if "amount" in c:
        p = stages.decay(p, c["amount"], np)
    p, g, *held = rule.turned((p, g, *(slots[name] for name in rule.slots)), c, np)
    if rule.ratio:
        norms = [np.sqrt(sum_of_squares(x)) for x in rule.quantities((p, g, *held), c, np)]
        with np.errstate(all="ignore"):  # an array may be empty
            own = rule.ratio(p.size, *norms, *(values[name] for name in rule.ratio_names), np)
        c |= {name: p.dtype.type(value) for name, value in own.items()}
    p, *state = rule.function(p, g, *held, *(c[name] for name in rule.function_names), np)
    new = dict(zip(rule.slots, state, strict=True))
    if "keep" in c:
        new["average"] = stages.average(slots["average"], p, c["keep"], c["new"], np)
    return np.asarray(p), {name: np.asarray(value) for name, value in new.items()}


@rules
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_rule_bit_for_bit(rule: Any, dtype: str) -> None:
    """Parameters and slots after two steps equal those of the array engine."""
    params, slots = draw(1, SHAPES, dtype), state_of(rule, SHAPES, dtype)
    mine, state = [p.copy() for p in params], copies(slots)
    plan = Plan(rule, mine, state, threads=2)
    for step in range(2):
        grads, values = draw(20 + step, SHAPES, dtype), coefficients(rule, step)
        params, slots = by_arrays(rule, values, params, grads, slots)
        plan.sweep(grads, typed(values))
    same(mine, params)
    same(column(state), column(slots))


@rules
def test_every_stage_bit_for_bit(rule: Any) -> None:
    """With all stages in one sweep, the result is that of the stages one after another."""
    params, grads = draw(1, SHAPES, "float32"), draw(2, SHAPES, "float32")
    slots = state_of(rule, SHAPES, "float32", "average")
    values = coefficients(rule) | VALUES
    wanted = [specified(rule, values, *x) for x in zip(params, grads, slots, strict=True)]
    Plan(rule, params, slots).sweep(grads, typed(values))
    same(params, [p for p, _ in wanted])
    same(column(slots), column([new for _, new in wanted]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("grad_dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("master", [False, True])
def test_half_precision_bit_for_bit(dtype: str, grad_dtype: str, master: bool) -> None:
    """Two steps of 16-bit parameters, the second after the program changed some of them."""
    rule = adam()
    params = draw(1, SHAPES, dtype)
    slots = state_of(rule, SHAPES, dtype, *["master"] * master)
    mine, state = [p.copy() for p in params], copies(slots)
    plan = Plan(rule, mine, state)
    for step in range(2):
        grads, values = draw(20 + step, SHAPES, grad_dtype), coefficients(rule, step)
        params, slots = by_arrays(rule, values, params, grads, slots)
        plan.sweep(grads, typed(values))
        same(mine, params)
        same(column(state), column(slots))
        params[3][:10] = mine[3][:10] = np_dtype(dtype).type(0.625)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_bit_for_bit(dtype: str) -> None:
    """A complex number is two reals; real gradients are taken too."""
    rule = adam()
    params, slots = draw(1, SHAPES, dtype), state_of(rule, SHAPES, dtype)
    mine, state = [p.copy() for p in params], copies(slots)
    plan, values = Plan(rule, mine, state), coefficients(rule)
    grads = draw(2, SHAPES, dtype)
    grads[0] = grads[0].real.copy()
    params, slots = by_arrays(rule, values, params, grads, slots)
    plan.sweep(grads, typed(values))
    same(mine, params)
    same(column(state), column(slots))


def test_special_values_bit_for_bit() -> None:
    """NaN, infinities, subnormal numbers and zeros of either sign, through every function."""

    @ao.rule(slots=("a", "b"))
    def everything(p, g, a, b, c, d, xp):  # type: ignore[no-untyped-def]
        a = xp.maximum(a, g) - xp.minimum(p, g) * xp.sign(b)
        b = xp.where(abs(p) > xp.abs(g), xp.copysign(xp.square(p), g), xp.sqrt(-b))
        return p + c * a / d, a, -b

    special = np.array([0.0, -0.0, 1.0, -1.5, 1e-40, -1e-45, 3e38, math.inf, -math.inf, math.nan])
    grid = np.stack(np.meshgrid(*[special] * 4), axis=-1).reshape(-1, 4).T
    params, grads, a, b = (np.ascontiguousarray(x, np.float32) for x in grid)
    slots = [{"a": a, "b": b}]
    with np.errstate(all="ignore"):
        values = {"c": 0.3, "d": 0.7}
        wanted = everything(params, grads, a, b, np.float32(0.3), np.float32(0.7), np)
    Plan(everything, [params], slots).sweep([grads], typed(values))
    for found, want in zip((params, a, b), wanted, strict=True):
        np.testing.assert_array_equal(np.isnan(found), np.isnan(want))
        known = ~np.isnan(want)
        same([found[known]], [want[known]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_norm_bit_for_bit(dtype: str) -> None:
    """The sum of squares follows the specification, on any number of threads."""
    shapes = [*SHAPES, (BLOCK,), (BLOCK + 1,), (12 * BLOCK + 7,)]
    params, grads = draw(1, shapes, dtype), draw(2, shapes, dtype)
    for threads in (1, 2, 5):
        plan = Plan(adam(), params, state_of(adam(), shapes, dtype), threads=threads)
        assert plan.look(params, grads)
        assert plan.squares() == [sum_of_squares(g) for g in grads]
        assert plan.nonfinite == 0


def test_norm_counts_what_is_not_finite() -> None:
    """Finite numbers whose squares overflow are finite."""
    grads = draw(2, SHAPES, "float64")
    grads[3][[5, BLOCK, 2 * BLOCK + 4464]] = math.nan, math.inf, -math.inf
    grads[4][3, 4] = 1e200
    params = draw(1, SHAPES, "float64")
    plan = Plan(adam(), params, state_of(adam(), SHAPES, "float64"))
    assert plan.look(params, [*grads[:5], None, grads[6]])
    sums = plan.squares()
    assert plan.nonfinite == sum(nonfinite(g) for g in grads) == 3
    assert math.isnan(sums[3]) and math.isinf(sums[4]) and sums[5] == 0.0


def in_order(values: list[float]) -> float:
    """Add numbers up one by one: lanes of runs, runs of blocks, blocks."""
    total = 0.0
    for block in (values[k : k + 32768] for k in range(0, len(values), 32768)):
        of_block = 0.0
        for run in (block[k : k + 2048] for k in range(0, len(block), 2048)):
            lanes = [0.0] * 16
            for k, x in enumerate(run):
                lanes[k % 16] += x
            while len(lanes) > 1:
                half = len(lanes) // 2
                lanes = [lanes[k] + lanes[k + half] for k in range(half)]
            of_block += lanes[0]
        total += of_block
    return total


@pytest.mark.parametrize("size", [0, 1, 17, 2047, 2049, 32768, 70_001])
def test_the_order_of_additions(size: int) -> None:
    """It is the one that the documentation tells."""
    rng = np.random.default_rng(size)
    x = rng.normal(size=size) * 10.0 ** rng.uniform(-3, 3, size)
    assert sum_of_values(x) == in_order(x.tolist())
    assert sum_of_squares(x) == in_order((x * x).tolist())


def test_sum_of_squares_is_accurate() -> None:
    """To the rounding of the final result, whatever the order in memory."""
    rng = np.random.default_rng(0)
    for shape in ((3 * BLOCK + 5,), (333, 301), ()):
        x = np.asarray(rng.normal(size=shape), np.float32)
        exact = math.fsum(v * v for v in x.ravel().tolist())
        assert sum_of_squares(x) == pytest.approx(exact, rel=1e-13)
    assert sum_of_squares(np.full(4, 1e38, np.float32)) == pytest.approx(4e76, rel=1e-6)
    assert sum_of_squares(np.zeros(0)) == 0.0


def test_any_number_of_threads() -> None:
    """Large arrays: the result of one thread is that of many."""
    rule, shapes = adam(), [(300_001,), (70,), (200_000, 2)]
    values, found = coefficients(rule), []
    for threads in (1, 2, 3, 8):
        params, slots = draw(1, shapes, "float32"), state_of(rule, shapes, "float32")
        plan = Plan(rule, params, slots, threads=threads)
        for _ in range(3):
            plan.sweep(draw(2, shapes, "float32"), typed(values))
        found.append([*params, *column(slots)])
    for other in found[1:]:
        same(other, found[0])


def test_numbers_for_each_parameter() -> None:
    """A coefficient may be an array with one number for each parameter."""
    rule, values = adam(), coefficients(adam())
    params, slots = draw(1, SHAPES, "float32"), state_of(rule, SHAPES, "float32")
    mine, state = [p.copy() for p in params], copies(slots)
    rates, grads = np.linspace(0.1, 0.2, len(SHAPES)), draw(2, SHAPES, "float32")
    Plan(rule, mine, state).sweep(grads, typed(values | {"lr": rates}))
    for k, rate in enumerate(rates):
        given = [params[k]], [grads[k]], [slots[k]]
        (params[k],), (slots[k],) = by_arrays(rule, values | {"lr": rate}, *given)
    same(mine, params)
    same(column(state), column(slots))


def test_arrays_of_several_kinds_in_one_plan() -> None:
    """Each dtype is swept on its own; None leaves its parameter alone."""
    rule, values = adam(), coefficients(adam())
    kinds = ["float32", "float64", "float32", "bfloat16", "complex64", "float64", "float32"]
    params = [draw(k, [SHAPES[k]], kind)[0] for k, kind in enumerate(kinds)]
    grads = [draw(9 + k, [SHAPES[k]], kind)[0] for k, kind in enumerate(kinds)]
    grads[5] = None
    slots = [state_of(rule, [SHAPES[k]], kind)[0] for k, kind in enumerate(kinds)]
    mine, state = [p.copy() for p in params], copies(slots)
    plan = Plan(rule, mine, state)
    assert plan.look(mine, grads)
    sums = plan.squares()
    reals = [g if g is None or g.dtype.kind != "c" else g.view("float32") for g in grads]
    assert sums == [0.0 if g is None else sum_of_squares(g) for g in reals]
    plan.sweep(grads, typed(values))
    params, slots = by_arrays(rule, values, params, grads, slots)
    same(mine, params)
    same(column(state), column(slots))


MUTANTS = {
    "slots swapped": ("store_s0(a_s0, i, s0)", "store_s0(a_s0, i, s1)"),
    "scale dropped": ("g = clip(g, scale, bound, xp)", "g = clip(g, bound, bound, xp)"),
    "last chunk skipped": ("peek(bounds, task + 1)", "peek(bounds, task + 1) - 1"),
    "average of the old parameter": ("p, s0, s1 = rule(", "q, s0, s1 = rule("),
    "coefficients of the first tensor": ("peek(rows, t)", "peek(rows, 0)"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_engine_is_noticed(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these faults, put in on purpose, makes a comparison fail."""
    found, replaced = MUTANTS[mutant]

    def broken(*arguments: Any) -> Any:
        program = sweep_program(*arguments)
        assert found in program.source
        return replace(program, source=program.source.replace(found, replaced))

    monkeypatch.setattr(_cpu_recipes, "sweep_program", broken)
    monkeypatch.setattr(_cpu_native.store, "write", lambda key, content: None)
    check = test_numbers_for_each_parameter if "first" in mutant else test_every_stage_bit_for_bit
    with pytest.raises(AssertionError):
        check(*[] if "first" in mutant else [adam()])
