"""Rules with totals along rows and columns: the GPU engine gives what the array engine gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.engines import Step, sweep
from arrayoptim.engines.gpu import matrix_batches
from arrayoptim.engines.gpu.arrays import LIBRARIES
from arrayoptim.engines.gpu.engine import Plan, refusal, unprintable
from arrayoptim.numerics.sums import BLOCK
from engine_cases import by_arrays, coefficients, column, copies, draw, typed
from gpu_cases import layout_of, matrix_forms, matrix_programs, numbers
from gpu_on_host import NumPyOnHost, compiler, launched, off_by_one
from matrix_cases import RULES, SHAPES, UNFIT, largest, slots_of_sm3, state_of, summed
from optimizers_under_test import same

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")

rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
MANY = [*SHAPES, (BLOCK + 5, 3), (5000, 20)]
"""With more rows than a block adds up at once, and several tiles below each other."""


def stepped(rule: Any, shapes: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return parameters and slots after two steps by either engine, of the first one of those."""
    params, slots = draw(1, shapes, "float32"), state_of(rule, shapes, "float32")
    mine, state = [p.copy() for p in params], copies(slots)
    plan = Plan(rule, mine, state)
    for step in range(2):
        grads, values = draw(20 + step, shapes, "float32"), coefficients(rule, step)
        grads[1] = None if step else grads[1]
        with np.errstate(all="ignore"):
            params, slots = by_arrays(rule, values, params, grads, slots)
        plan.prepare(grads, typed(values))()
    return [*mine, *column(state)], [*params, *column(slots)]


@rules
@pytest.mark.parametrize("backwards", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_sums_bit_for_bit(rule: Any, backwards: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In matrices of many forms; and no thread depends on another of its phase."""
    monkeypatch.setitem(LIBRARIES, "numpy", NumPyOnHost(backwards))
    same(*stepped(rule, MANY))


@rules
def test_every_form_bit_for_bit(rule: Any, host: NumPyOnHost) -> None:
    """In every data type and with every stage, aligned or not, whatever slots stages have."""
    host.devices[0].compile(matrix_programs(rule))
    shapes = [(40, 41), (3, 5, 7), (0, 4), (16, 2064)]
    for number, (dtype, grad, form, stages) in enumerate(matrix_forms()):
        layout = layout_of(rule, form, stages)
        params, kinds = draw(1, shapes, dtype), layout.slots(dtype)
        slots: list[dict[str, Any]] = []
        for place, p in enumerate(params):
            own = rule.slot_shapes(p.shape)
            drawn = enumerate(kinds.items(), 7 * place)
            slots.append(
                {n: draw(k, [own.get(n, p.shape)], d, positive=True)[0] for k, (n, d) in drawn}
            )
            if "compensation" in kinds:
                slots[-1]["compensation"] *= slots[-1]["compensation"].dtype.type(1e-3)
            if "master" in kinds:
                slots[-1]["master"] = p.astype(np.float32)
        mine, state = [p.copy() for p in params], copies(slots)
        if number % 2:
            mine = [off_by_one(p) for p in mine]
        plan = Plan(rule, mine, state)
        for step in range(2):
            grads, values = draw(20 + step, shapes, grad), numbers(rule, stages, step)
            whole = Step(layout, typed(values), None, range(len(params)))
            with np.errstate(all="ignore"):
                new, after = sweep(whole, params, grads, slots)
            params, slots = list(new), list(after)
            plan.prepare(grads, typed(values))()
            same(*(list(map(plain, each)) for each in (mine, params)))
            same(*(list(map(plain, column(each))) for each in (state, slots)))


def plain(array: np.ndarray) -> np.ndarray:
    """Return an array in which all NaN are the same one: no rule says which it gets."""
    return np.where(np.isnan(array), array.dtype.type(math.nan), array)


def test_special_values(host: NumPyOnHost) -> None:
    """NaN and infinities reach just the totals that they belong to."""
    shapes = [(40, 300)]
    params, grads = draw(1, shapes, "float32"), draw(2, shapes, "float32")
    grads[0][[3, 9], [7, 258]] = math.nan, math.inf
    slots, values = state_of(largest, shapes, "float32"), coefficients(largest)
    with np.errstate(all="ignore"):
        wanted, kept = by_arrays(largest, values, params, grads, copies(slots))
    Plan(largest, params, slots).prepare(grads, typed(values))()
    for mine, other in zip([*params, *column(slots)], [*wanted, *column(kept)], strict=True):
        np.testing.assert_array_equal(mine, other)
    assert np.isnan(slots[0]["row"]).sum() == 1 and np.isnan(slots[0]["column"]).sum() == 1


def test_numbers_for_each_parameter(host: NumPyOnHost) -> None:
    """A coefficient may have one number for each parameter."""
    shapes, values = [(30, 20), (4, 6), (9, 9)], coefficients(largest)
    params, slots = draw(1, shapes, "float32"), state_of(largest, shapes, "float32")
    mine, state, grads = [p.copy() for p in params], copies(slots), draw(2, shapes, "float32")
    rates = np.linspace(0.1, 0.2, 3)
    Plan(largest, mine, state).prepare(grads, typed(values | {"lr": rates}))()
    for k, rate in enumerate(rates):
        given = [params[k]], [grads[k]], [slots[k]]
        (params[k],), (slots[k],) = by_arrays(largest, values | {"lr": rate}, *given)
    same(mine, params)
    same(column(state), column(slots))


def test_gradients_in_the_memory_that_is_written(host: NumPyOnHost) -> None:
    """A gradient that is a parameter itself is copied before the first pass."""
    shapes, values = [(30, 20), (30, 20)], coefficients(largest)
    params, slots = draw(1, shapes, "float32"), state_of(largest, shapes, "float32")
    grads = [params[1], params[0]]
    wanted, kept = by_arrays(largest, values, params, [g.copy() for g in grads], copies(slots))
    Plan(largest, params, slots).prepare(grads, typed(values))()
    same(params, wanted)
    same(column(slots), column(kept))


def model(count: int) -> tuple[list[Any], list[Any]]:
    """Return matrices and vectors with their gradients."""
    shapes = [(17, 33), (8,), (3, 4, 5), (40, 8)] * count
    return draw(1, shapes, "float32"), draw(2, shapes, "float32")


@pytest.mark.parametrize(
    ("make", "passes"),
    [
        (ao.Adafactor, ["totals1", "lines1", "totals2", "lines2", "stored"]),
        (ao.SM3, ["totals1", "stored", "lines1"]),
    ],
)
def test_launches(make: Callable[..., Any], passes: list[str], host: NumPyOnHost) -> None:
    """As many for any number of matrices; nothing is read, and no table is sent again."""
    device = host.devices[0]
    for count in (1, 20):
        optimizer, (params, grads) = make(), model(count)
        optimizer.apply(grads, params)
        # Vectors have a rule of their own, in Adafactor with a pass that measures them.
        matrices = [name.split("_")[0] for name in launched([device]) if "vectors" not in name]
        assert matrices == passes
        tables = device.tables
        for _ in range(3):
            optimizer.apply(grads, params)
        assert len(launched([device])) == 3 * (len(passes) + 1 + (make is ao.Adafactor))
        # The numbers of those steps, which are new, for the vectors that are measured.
        assert device.tables - tables <= 3 * (make is ao.Adafactor)
        assert device.waits == 0


@pytest.mark.parametrize("make", [ao.Adafactor, ao.SM3])
def test_steps_in_a_graph(make: Callable[..., Any], host: NumPyOnHost) -> None:
    """They have the bits of the array engine, with new numbers at each step."""
    rate = ao.schedules.ExponentialDecay(0.1, 2, 0.5)
    optimizer, other_one = (
        make(lr=rate, groups=[ao.group("2", weight_decay=0.1)]) for _ in range(2)
    )
    params, grads = model(1)
    other = [p.copy() for p in params]
    step = optimizer.capture(params)
    with host.captured() as graph:
        step.apply(grads)
    for _ in range(3):
        step.replay(graph)
        with ao.engine("array"):
            other_one.apply(grads, other)
    same([*params, *optimizer.get_weights()], [*other, *other_one.get_weights()])
    assert host.devices[0].waits == 0


def test_interrupts_between_launches(host: NumPyOnHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was launched before an interrupt is not launched again."""
    shapes, values, start = [(300, 270)], coefficients(largest), matrix_batches.launches
    grads, count = draw(2, shapes, "float32"), 0
    wanted, kept = draw(1, shapes, "float32"), state_of(largest, shapes, "float32")
    Plan(largest, wanted, kept).prepare(grads, typed(values))()

    def interrupted(launch: Any, blocks: int, arguments: Any) -> Any:
        def late() -> Any:
            nonlocal count
            yield from start(launch, blocks, arguments)
            count += 1
            if count in (1, 3):
                raise KeyboardInterrupt

        return late()

    params, slots = draw(1, shapes, "float32"), state_of(largest, shapes, "float32")
    plan = Plan(largest, params, slots)
    monkeypatch.setattr(matrix_batches, "launches", interrupted)
    run = plan.prepare(grads, typed(values))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run()
    run()
    same(params, wanted)
    same(column(slots), column(kept))


@pytest.mark.parametrize("cls", [ao.Muon, ao.SOAP, ao.Shampoo])
def test_products_of_matrices_have_no_kernel(cls: Any, host: NumPyOnHost) -> None:
    """Rules that do more than arithmetic and totals are left to the array engine."""
    assert "is no loop over elements" in str(unprintable(cls().rule))


def test_what_is_left_to_the_array_engine(host: NumPyOnHost) -> None:
    """Each refusal says which array cannot be stepped in rows and columns."""
    p, rule = np.ones((3, 2), np.float32), ao.SM3().rule
    good = slots_of_sm3()
    assert refusal(rule, p, good) is None
    assert refusal(rule, np.asfortranarray(p), good) == "its rows are not contiguous"
    assert "complex" in str(refusal(rule, p.astype("complex64"), good))
    for name, wrong in (*UNFIT, ("momentum", np.zeros((2, 3), np.float32))):
        assert f"slot {name!r}" in str(refusal(rule, p, good | {name: wrong}))
    host.second = [good["row_accumulator"]]
    assert "on the device of the parameter" in str(refusal(rule, p, good))
    host.second = []
    groups = ao.explain([p, np.ones((4, 3), np.float32).T], ao.SM3()).groups
    assert {group.engine for group in groups} == {"gpu", "array"}


MUTANTS = {
    "totals of rows begun anew": ("sum0 += x0", "sum0 = x0"),
    "tiles in one another's place": ("chunk[6] * l.width", "0 * l.width"),
    "one tile missing": ("whole tile = 1; tile < l.down", "whole tile = 2; tile < l.down"),
    "mean of the wrong axis": ("/ (double)l.height)", "/ (double)l.width)"),
    "the slot before the step": ("l.s0[y] = ", "l.s0[y] = 0 * "),
    "runs over each other": ("(whole)RUN * (u / LANES)", "(whole)LANES * (u / LANES)"),
    "rows over each other": ("stepped<1>(y * l.width + x", "stepped<1>(x"),
}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_kernel_is_noticed(
    mutant: str, host: NumPyOnHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these faults, put in on purpose, makes a comparison fail."""
    before, after = MUTANTS[mutant]
    made, changed = matrix_batches.matrix_passes, []

    def broken(*arguments: Any) -> Any:
        passes = []
        for each in made(*arguments):
            name = f"{each.program.name}_broken"
            body = each.program.body.replace(before, after).replace(each.program.name, name)
            changed.extend([name] * (before in each.program.body))
            passes.append(replace(each, program=replace(each.program, name=name, body=body)))
        return passes

    monkeypatch.setattr(matrix_batches, "matrix_passes", broken)
    with pytest.raises(AssertionError):
        same(*stepped(summed, [*SHAPES, (5000, 20)]))
    assert changed
