"""State and parameters in fewer bits: every engine rounds alike, and training still works."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.engines.cpu.engine import Plan, refusal
from arrayoptim.numerics.int8 import decode, encode
from arrayoptim.numerics.rounding import GROUP, random_bits, step_seed, stochastic_bfloat16
from arrayoptim.rules import stages
from arrayoptim.rules.nonnegative import nonnegative_slots
from backends import np_dtype
from engine_cases import (
    SHAPES,
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
from optimizers_under_test import make, same

Bits = np.ndarray[Any, Any]
BFLOAT16 = np_dtype("bfloat16")


def bits_of(seed: int | None, leaf: int, slot: int, size: int) -> Bits | None:
    """Return random bits where there is a seed."""
    return None if seed is None else random_bits(seed, leaf, slot, size)


def test_stochastic_bfloat16_slots_bit_for_bit() -> None:
    """The random bits are those of the specification, by leaf and slot, on any batch."""
    rule, kinds = adam(), ["float32", "float64"]
    params = [draw(1, SHAPES, kinds[k % 2])[k] for k in range(len(SHAPES))]
    grads = [draw(2, SHAPES, kinds[k % 2])[k] for k in range(len(SHAPES))]
    slots = [
        {name: x.astype(BFLOAT16) for name, x in slot.items()}
        for slot in state_of(rule, SHAPES, "float32")
    ]
    mine, state, values = [p.copy() for p in params], copies(slots), coefficients(rule)
    seed = step_seed(-3, 41)
    Plan(rule, mine, state).sweep(grads, typed(values), seed)
    for leaf, (p, g, slot) in enumerate(zip(params, grads, slots, strict=True)):
        c = [p.dtype.type(values[name]) for name in rule.coefficients]
        new, *exact = rule(p, g, *(slot[name].astype(p.dtype) for name in rule.slots), *c, np)
        same([mine[leaf]], [np.asarray(new)])
        for k, (name, x) in enumerate(zip(rule.slots, exact, strict=True)):
            x = np.asarray(x, np.float32)
            wanted = stochastic_bfloat16(x, random_bits(seed, leaf, k, x.size)).astype(BFLOAT16)
            same([state[leaf][name]], [wanted])


@pytest.mark.parametrize("seed", [0, -3, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("iterations", [0, 41, 2**40])
def test_the_seed_of_a_step(seed: int, iterations: int) -> None:
    """It is drawn from the run's seed alone, which is all that files hold of it."""
    stride, mask = 0x9E3779B97F4A7C15, (1 << 64) - 1

    def mixed(x: int) -> int:
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            x ^= (x & mask) >> shift
            x = x * factor & mask
        return x

    wanted = mixed((mixed(seed & mask) + stride * (iterations + 1)) & mask)
    found = step_seed(seed, iterations)
    assert -(2**63) <= found < 2**63
    assert found % 2**64 == wanted
    assert step_seed(-3, 41) == -6214034289779152942


def test_stochastic_rounding_has_the_right_mean() -> None:
    """Both neighbours are drawn, by their distance; what fits is left alone; NaN stays NaN."""
    x = np.linspace(1, 2, 4096, dtype=np.float32)
    drawn = [stochastic_bfloat16(x, random_bits(step_seed(0, t), 0, 0, x.size)) for t in range(400)]
    assert np.max(np.abs(drawn - x)) <= 2.0**-7
    np.testing.assert_allclose(np.mean(drawn, axis=0), x, atol=6 * 2.0**-8 / 20)
    exact = x.astype(BFLOAT16).astype(np.float32)
    same([stochastic_bfloat16(exact, random_bits(1, 2, 3, x.size))], [exact])
    odd = np.array([np.nan, np.inf, -np.inf, -0.0], np.float32)
    same([stochastic_bfloat16(odd, np.full(4, 65535, np.uint32))[1:]], [odd[1:]])


def test_random_bits_are_independent() -> None:
    """Between slots, leaves and steps, and spread over all values."""
    base = random_bits(step_seed(1, 1), 0, 0, 1 << 16).astype(float)
    others = [(1, 1, 0, 1), (1, 1, 1, 0), (1, 2, 0, 0), (2, 1, 0, 0), (1, 1, 0, 2)]
    for seed, step, leaf, slot in others:
        other = random_bits(step_seed(seed, step), leaf, slot, 1 << 16)
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.02
    counts = np.bincount(base.astype(int) // 4096, minlength=16)
    assert np.all(np.abs(counts - 4096) < 350)
    assert abs(np.corrcoef(base[:-1], base[1:])[0, 1]) < 0.02


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_kahan_bit_for_bit(dtype: str) -> None:
    """What rounding loses is kept in a second 16-bit number."""
    rule = adam()
    params, grads = draw(1, SHAPES, dtype), draw(2, SHAPES, dtype)
    slots = state_of(rule, SHAPES, dtype)
    for slot, p in zip(slots, params, strict=True):
        slot["compensation"] = np.asarray(p.astype(np.float32) * 2e-4).astype(p.dtype)
    mine, state, values = [p.copy() for p in params], copies(slots), coefficients(rule)
    Plan(rule, mine, state).sweep(grads, typed(values))
    for k, (p, g, slot) in enumerate(zip(params, grads, slots, strict=True)):
        wide = stages.compensate(*(x.astype(np.float32) for x in (p, slot["compensation"])), np)
        c = [np.float32(values[name]) for name in rule.coefficients]
        old = [slot[name] for name in rule.slots]
        new, *exact = rule(wide, g.astype(np.float32), *old, *c, np)
        stored = np.asarray(new).astype(p.dtype)
        lost = stages.remainder(np.asarray(new), stored.astype(np.float32), np).astype(p.dtype)
        same([mine[k], state[k]["compensation"]], [stored, np.asarray(lost)])
        same([state[k][name] for name in rule.slots], [np.asarray(x) for x in exact])


@pytest.mark.parametrize("slot", ["master", "compensation"])
def test_small_steps_are_not_lost(slot: str) -> None:
    """Steps of a hundredth of the spacing move a bfloat16 parameter."""
    rule = make("SGD").rule
    values = dict.fromkeys(rule.coefficients, 0.0) | {"take": 2.0**-15}
    p, more = np.ones(300, BFLOAT16), np.zeros(300, np.float32 if slot == "master" else BFLOAT16)
    state = [{"momentum": np.zeros(300, np.float32), slot: more}]
    plan = Plan(rule, [p], state)
    for _ in range(1 << 9):
        plan.sweep([np.ones(300, BFLOAT16)], typed(values))
    np.testing.assert_allclose(p.astype(np.float32), 1 - 2.0**-6, rtol=2.0**-9)


def coded(
    rule: Any, slots: list[dict[str, Any]], seed: int | None, leaf: int = 0
) -> list[dict[str, Any]]:
    """Return slots as 8-bit codes with exponents."""
    found = []
    for leaf, slot in enumerate(slots):
        entry = {}
        for k, (name, positive) in enumerate(zip(rule.slots, nonnegative_slots(rule), strict=True)):
            x = np.asarray(slot[name], np.float32)
            codes, exponents = encode(x, not positive, bits_of(seed, leaf, k, x.size))
            entry |= {name: codes, f"{name}_exponents": exponents}
        found.append(entry)
    return found


@pytest.mark.parametrize("seed", [None, step_seed(5, 6)])
@pytest.mark.parametrize(
    ("name", "dtype"), [("Adam", "float32"), ("SGD", "float64"), ("RMSprop", "bfloat16")]
)
def test_codes_bit_for_bit(name: str, dtype: str, seed: int | None) -> None:
    """Decode, step, encode: as specified, with and without random bits."""
    rule = make(name).rule
    shapes = [*SHAPES, (GROUP,), (GROUP + 1,)]
    params, grads = draw(1, shapes, dtype), draw(2, shapes, dtype)
    slots = coded(rule, state_of(rule, shapes, "float32"), None)
    assert all(refusal(rule, p, s) is None for p, s in zip(params, slots, strict=True))
    mine, state, values = [p.copy() for p in params], copies(slots), coefficients(rule)
    wide = [
        {
            name: decode(slot[name], slot[f"{name}_exponents"], not positive)
            for name, positive in zip(rule.slots, nonnegative_slots(rule), strict=True)
        }
        for slot in slots
    ]
    compute = np.float64 if dtype == "float64" else np.float32
    wide = [{k: v.astype(compute) for k, v in slot.items()} for slot in wide]
    Plan(rule, mine, state).sweep(grads, typed(values), seed)
    new, exact = by_arrays(rule, values, params, grads, wide)
    same(mine, new)
    same(column(state), column(coded(rule, exact, seed)))


def test_codes_of_special_values() -> None:
    """What is not finite stays so; a mean of squares that is tiny becomes larger, never zero."""
    x = np.array([np.nan, np.inf, 1.0, 1e-30, 0.0], np.float32)
    for signed in (False, True):
        assert np.all(np.isinf(decode(*encode(x, signed), signed)[:2]))
        zeros = np.zeros(300, np.float32)
        same([decode(*encode(zeros, signed), signed)], [zeros])
    finite = np.array([1.0, 1e-30, 0.0, 0.3], np.float32)
    positive = decode(*encode(finite, False), False)
    assert 1e-30 < positive[1] < 1e-8 and 0.0 < positive[2] < 1e-8
    np.testing.assert_allclose(positive[[0, 3]], finite[[0, 3]], rtol=0.07)
    both = decode(*encode(-finite, True), True)
    assert both[1] == both[2] == 0.0
    np.testing.assert_allclose(both[[0, 3]], -finite[[0, 3]], rtol=0.07)


@pytest.mark.parametrize("signed", [False, True])
def test_codes_have_the_right_mean(signed: bool) -> None:
    """Averaged over random bits, also where the smallest steps are."""
    x = np.geomspace(1e-4, 1, GROUP, dtype=np.float32) * (-1.0 if signed else 1.0)
    x = x.astype(np.float32)
    drawn = [
        decode(*encode(x, signed, random_bits(step_seed(0, t), 0, 0, x.size)), signed)
        for t in range(2000)
    ]
    np.testing.assert_allclose(np.mean(drawn, axis=0), x, rtol=0.01)


@rules
def test_signs_of_slots(rule: Any) -> None:
    """A slot that is called non-negative is so after steps with gradients of either sign."""
    params = draw(1, [(500,)], "float64")
    slots = [{slot: np.zeros(500) for slot in rule.slots}]
    for step in range(10):
        values = coefficients(rule, step)
        with np.errstate(all="ignore"):
            grads = draw(20 + step, [(500,)], "float64")
            params, slots = by_arrays(rule, values, params, grads, slots)
    for slot, nonnegative in zip(rule.slots, nonnegative_slots(rule), strict=True):
        assert nonnegative == bool(np.nanmin(slots[0][slot]) >= 0)


def test_signs_of_means() -> None:
    """A step towards a number from a slot is seen as a mean of the two, and nothing else is."""

    @ao.rule(slots=("a", "b", "c", "d"))
    def means(p, g, a, b, c, d, k, xp):  # type: ignore[no-untyped-def]
        a = a + k * (g * g - a)
        b = b + k * (g - b)
        c = c + k * (g * g - a)
        d = d - k * (g * g - d)
        return p, a, b, c, d

    assert nonnegative_slots(means) == (True, False, False, False)


def test_what_8_bit_state_wants() -> None:
    """Exponents of the right number and type, and real parameters."""
    rule = make("SGD").rule
    p, good = np.zeros((3, 100), np.float32), np.zeros(2, np.int16)
    codes = np.zeros((3, 100), np.uint8)

    def reason(param: Any, **slots: Any) -> str:
        return refusal(rule, param, {"momentum": codes} | slots) or "served"

    assert reason(p, momentum_exponents=good) == "served"
    assert "no arithmetic for uint8" in reason(p)
    assert "not an array of 2 int16" in reason(p, momentum_exponents=good[:1])
    assert "not an array of 2 int16" in reason(p, momentum_exponents=good.astype(np.int32))
    assert "uint8" in reason(p.astype(np.complex64), momentum_exponents=good)


@pytest.mark.parametrize("kind", ["bfloat16", "uint8"])
def test_training_in_fewer_bits(kind: str) -> None:
    """Adam on an ill-conditioned regression ends where it does with float32 state."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 60)) * np.geomspace(0.03, 3, 60)
    w, rule = rng.normal(size=60), adam()
    y, n = x @ w, 60
    losses = {}
    for stored in ("float32", kind):
        p = np.zeros(n, np.float32)
        state: dict[str, Any] = {s: np.zeros(n, np_dtype(stored)) for s in rule.slots}
        if stored == "uint8":
            state |= {f"{s}_exponents": np.zeros(1, np.int16) for s in rule.slots}
        plan = Plan(rule, [p], [state])
        for t in range(3000):
            rows = rng.integers(0, 400, 32)
            g = (x[rows].T @ (x[rows] @ p - y[rows]) / 32).astype(np.float32)
            lr = 0.02 * (1 - t / 3000) * np.sqrt(1 - 0.999 ** (t + 1)) / (1 - 0.9 ** (t + 1))
            values = {"lr": lr, "b1": 0.9, "c1": 0.1, "b2": 0.999, "c2": 0.001, "eps": 1e-8}
            plan.sweep([g], typed(values), step_seed(0, t))
        losses[stored] = float(np.mean((x @ p - y) ** 2))
    assert losses[kind] < 1.5 * losses["float32"] + 1e-6
