"""Rules with totals along rows and columns: the CPU engine gives what the array engine gives."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.engines.cpu import native, recipes
from arrayoptim.engines.cpu.engine import Plan, refusal
from arrayoptim.engines.cpu.jobs import Job
from arrayoptim.engines.cpu.matrices import matrix_programs
from arrayoptim.numerics.sums import sums_along
from arrayoptim.rules import stages
from arrayoptim.rules.symbols import traced
from engine_cases import VALUES, by_arrays, coefficients, column, copies, draw, typed
from matrix_cases import RULES, SHAPES, UNFIT, largest, slots_of_sm3, state_of, summed
from optimizers_under_test import same


def stepped(rule: Any, dtype: str, shapes: list[Any], threads: int) -> tuple[list[Any], list[Any]]:
    """Return parameters and slots after two steps by either engine, of the first one of those."""
    params, slots = draw(1, shapes, dtype), state_of(rule, shapes, dtype)
    mine, state = [p.copy() for p in params], copies(slots)
    plan = Plan(rule, mine, state, threads=threads)
    for step in range(2):
        grads, values = draw(20 + step, shapes, dtype), coefficients(rule, step)
        grads[1] = None if step else grads[1]
        with np.errstate(all="ignore"):
            params, slots = by_arrays(rule, values, params, grads, slots)
        plan.sweep(grads, typed(values))
    return [*mine, *column(state)], [*params, *column(slots)]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_rule_bit_for_bit(rule: Any, dtype: str) -> None:
    """Parameters and slots after two steps equal those of the array engine, whatever is summed."""
    found, wanted = stepped(rule, dtype, SHAPES, 2)
    same(found, wanted)


def test_sums_are_accurate() -> None:
    """Those along rows, columns and both, of tiles in both directions, to their rounding."""
    x = draw(3, [(150, 2100)], "float32")[0]
    parts = {(-1,): x, (-2,): x.T, (-2, -1): x.reshape(1, -1)}
    for axes, rows in parts.items():
        found = np.ravel(sums_along(x, axes))
        wanted = [math.fsum(row) for row in rows.tolist()]
        limit = 1e-13 * float(np.abs(x).max()) * rows.shape[1]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=limit)


@pytest.mark.parametrize("shape", [(3, 5, 1), (3, 5, 7), (2, 40, 33)])
def test_sums_of_a_stack(shape: tuple[int, ...]) -> None:
    """Matrices that are summed together have the bits of each alone."""
    (stack,) = draw(4, [shape], "float64")
    for axes in ((-1,), (-2,), (-2, -1)):
        same([sums_along(stack, axes)], [np.stack([sums_along(m, axes) for m in stack])])
    assert sums_along(np.zeros((0, 4)), (-2,)).tolist() == [0.0] * 4


@pytest.mark.parametrize(
    "rule", [largest, summed, RULES["adafactor"]], ids=["largest", "summed", "adafactor"]
)
def test_any_number_of_threads(rule: Any) -> None:
    """The bits do not depend on who adds up which tile, nor on other tensors of the tree."""
    shapes = [(700, 1100), (5, 3), (2, 70_000)]
    found = [stepped(rule, "float32", shapes, threads)[0] for threads in (1, 2, 5)]
    same(found[1], found[0])
    same(found[2], found[0])
    alone = [stepped(rule, "float32", [shapes[0], (2, 2)], 1)[0][0]]
    same(alone, found[0][:1])


def test_every_stage_bit_for_bit() -> None:
    """All stages come before and after the passes as they do in one sweep."""
    rule, shapes = largest, [(30, 20), (150, 2100)]
    params, grads = draw(1, shapes, "float32"), draw(2, shapes, "float32")
    slots = state_of(rule, shapes, "float32", "average")
    values = coefficients(rule) | VALUES | {"floor": -0.5, "ceiling": 0.75}
    wanted, kept = [], []
    c = {name: np.float32(value) for name, value in values.items()}
    for p, g, held in zip(params, grads, slots, strict=True):
        g = stages.clip(g, c["scale"], c["bound"], np)
        g = stages.couple(g, p, c["l2"], np)
        p = stages.decay(p, c["amount"], np)
        p, *state = rule.function(p, g, *(held[n] for n in rule.slots), c["lr"], c["b1"], np)
        p = stages.box(p, c["floor"], c["ceiling"], np)
        wanted.append(p)
        kept.append(dict(zip(rule.slots, state, strict=True)))
        kept[-1]["average"] = stages.average(held["average"], p, c["keep"], c["new"], np)
    Plan(rule, params, slots).sweep(grads, typed(values))
    same(params, wanted)
    same(column(slots), column(kept))


@pytest.mark.parametrize("master", [False, True])
def test_half_precision_bit_for_bit(master: bool) -> None:
    """16-bit parameters are widened in each pass and rounded once."""
    pytest.importorskip("ml_dtypes")
    rule, shapes = ao.SM3().rule, [(30, 20), (5, 700)]
    params = draw(1, shapes, "bfloat16")
    slots = state_of(rule, shapes, "float32", *["master"] * master)
    mine, state = [p.copy() for p in params], copies(slots)
    plan = Plan(rule, mine, state)
    for step in range(2):
        grads, values = draw(20 + step, shapes, "bfloat16"), coefficients(rule, step)
        params, slots = by_arrays(rule, values, params, grads, slots)
        plan.sweep(grads, typed(values))
        same(mine, params)
        same(column(state), column(slots))


def test_special_values() -> None:
    """NaN and infinities reach just the totals that they belong to."""
    rule, shapes = largest, [(40, 300)]
    params, grads = draw(1, shapes, "float32"), draw(2, shapes, "float32")
    grads[0][[3, 9], [7, 258]] = math.nan, math.inf
    slots, values = state_of(rule, shapes, "float32"), coefficients(rule)
    with np.errstate(all="ignore"):
        wanted, kept = by_arrays(rule, values, params, grads, copies(slots))
    Plan(rule, params, slots).sweep(grads, typed(values))
    for mine, other in zip([*params, *column(slots)], [*wanted, *column(kept)], strict=True):
        np.testing.assert_array_equal(mine, other)
    assert np.isnan(slots[0]["row"]).sum() == 1 and np.isnan(slots[0]["column"]).sum() == 1


def test_numbers_for_each_parameter() -> None:
    """A coefficient may have one number for each parameter."""
    shapes, values = [(30, 20), (4, 6), (9, 9)], coefficients(largest)
    params, slots = draw(1, shapes, "float32"), state_of(largest, shapes, "float32")
    mine, state, grads = [p.copy() for p in params], copies(slots), draw(2, shapes, "float32")
    rates = np.linspace(0.1, 0.2, 3)
    Plan(largest, mine, state).sweep(grads, typed(values | {"lr": rates}))
    for k, rate in enumerate(rates):
        given = [params[k]], [grads[k]], [slots[k]]
        (params[k],), (slots[k],) = by_arrays(largest, values | {"lr": rate}, *given)
    same(mine, params)
    same(column(state), column(slots))


def test_an_interrupted_step_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done before an interrupt between two passes is not done again."""
    shapes, values, run = [(300, 270)], coefficients(largest), Job.run
    grads, jobs = draw(2, shapes, "float32"), []
    wanted, kept = draw(1, shapes, "float32"), state_of(largest, shapes, "float32")
    Plan(largest, wanted, kept).sweep(grads, typed(values))

    def interrupted(self: Any, count: Any) -> None:
        run(self, count)
        jobs.append(self)
        if len(jobs) in (1, 3, 6):
            raise KeyboardInterrupt

    params, slots = draw(1, shapes, "float32"), state_of(largest, shapes, "float32")
    plan = Plan(largest, params, slots)
    assert plan.look(params, grads)
    plan.load(typed(values))
    monkeypatch.setattr(Job, "run", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            plan.run()
    plan.run()
    same(params, wanted)
    same(column(slots), column(kept))


def test_gradients_in_the_memory_that_is_written() -> None:
    """A gradient that is a parameter itself is copied before the first pass."""
    shapes, values = [(30, 20), (30, 20)], coefficients(largest)
    params, slots = draw(1, shapes, "float32"), state_of(largest, shapes, "float32")
    grads = [params[1], params[0]]
    wanted, kept = by_arrays(largest, values, params, [g.copy() for g in grads], copies(slots))
    Plan(largest, params, slots).sweep(grads, typed(values))
    same(params, wanted)
    same(column(slots), column(kept))


@pytest.mark.parametrize("cls", [ao.Muon, ao.SOAP, ao.Shampoo])
def test_products_of_matrices_are_no_loops(cls: Any) -> None:
    """Rules that do more than arithmetic and totals are left to the array engine."""
    assert traced(cls().rule) is None
    p = np.ones((3, 2), np.float32)
    assert "is no loop over elements" in str(refusal(cls().rule, p, {}))


def test_what_is_left_to_the_array_engine() -> None:
    """Each refusal says which array cannot be stepped in rows and columns."""
    p, rule = np.ones((3, 2), np.float32), ao.SM3().rule
    good = slots_of_sm3()
    assert refusal(rule, p, good) is None
    assert refusal(rule, np.asfortranarray(p), good) == "its rows are not contiguous"
    assert "complex" in str(refusal(rule, p.astype("complex64"), good))
    for name, wrong in UNFIT:
        assert f"slot {name!r}" in str(refusal(rule, p, good | {name: wrong}))
    assert traced(ao.Adafactor(preset="keras3").rule_for("", (2, 3, 4))) is None


def test_rules_that_cannot_be_told_in_rows_and_columns() -> None:
    """Shapes that do not fit, functions that are not known and slots put in each other's place."""

    def of(function: Any, shapes: Any = None) -> Any:
        return ao.Rule(function, ("a", "b"), "matrix", shapes=shapes)

    square = lambda n, k: {"a": (n, n)}  # noqa: E731
    two = lambda n, k: {"a": (n,), "b": (n,)}  # noqa: E731
    assert traced(of(lambda p, g, a, b, xp: (p, a, b))) is not None
    assert traced(of(lambda p, g, a, b, xp: (p, a, b), square)) is None
    assert traced(of(lambda p, g, a, b, xp: (p, b, a), two)) is None
    assert traced(of(lambda p, g, a, b, xp: (p - a, a, b), two)) is None
    assert traced(of(lambda p, g, a, b, xp: (p, xp.sum(g, axis=-2), b), two)) is None
    assert traced(of(lambda p, g, a, b, xp: (xp.tanh(p), a, b))) is None
    assert traced(of(lambda p, g, a, b, xp: (p + np.ones(1), a, b))) is None
    assert traced(of(lambda p, g, a, b, xp: (p if p.shape[0] else g, a, b))) is None


MUTANTS = {
    "totals of rows begun anew in each strip": ("add_values_w0(l_w0", "add_values_w0(lanes(0)"),
    "tiles of columns in one another's place": ("8 * width * y_tile", "8 * width * 0"),
    "one tile missing": ("for tile in range(1, down)", "for tile in range(2, down)"),
    "mean of the wrong axis": ("/ double(height))", "/ double(width))"),
    "the slot before the step": ("store_s0(a_s0, y, ", "store_s0(a_s0, y, 0 * "),
    "rows over each other": ("base = y * width", "base = y"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_engine_is_noticed(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these faults, put in on purpose, makes a comparison fail."""
    before, after = MUTANTS[mutant]
    changed = []

    def broken(*arguments: Any) -> Any:
        programs = matrix_programs(*arguments)
        changed.extend(program for program in programs if before in program.source)
        return [replace(each, source=each.source.replace(before, after)) for each in programs]

    monkeypatch.setattr(recipes, "matrix_programs", broken)
    monkeypatch.setattr(native.store, "write", lambda key, content: None)
    with pytest.raises(AssertionError):
        test_every_rule_bit_for_bit(summed, "float32")
    assert changed
