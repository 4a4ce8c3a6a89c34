"""Averages that belong to rules: on every backend and data type, beside those of the stage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import NUMPY, TestBackend, precision
from optimizers_under_test import NAMES, cls_of, draw_for, make, same, train

OWN = [name for name in NAMES if cls_of(name).average is not ao.Optimizer.average]


def test_there_are_some() -> None:
    """Those that the documentation names."""
    assert OWN == ["ASGD", "ScheduleFreeAdamW", "ScheduleFreeSGD"]


def steps(name: str, lr: float = 0.1) -> dict[str, Any]:
    """Return arguments under which the mean is soon another point than the parameter."""
    return {"lr": lr} | ({"t0": 1.0} if name == "ASGD" else {})


def wide(array: np.ndarray) -> np.ndarray:
    """Return the values in double precision."""
    return array.astype("complex128" if array.dtype.kind == "c" else "float64")


@pytest.mark.parametrize("name", OWN)
def test_close_to_double_precision(name: str, backend: TestBackend, dtype: str) -> None:
    """New arrays of the parameters' type; the parameters stay."""
    twin = "complex128" if dtype.startswith("complex") else "float64"
    found = []
    for place, kind in ((backend, dtype), (NUMPY, twin)):
        opt = make(name, **steps(name))
        start = [wide(NUMPY.asarray(p, dtype)) for p in draw_for(1, dtype)]
        params = train(opt, place, place.tree(start, kind), range(4), kind)
        before = place.read(params)
        averages = opt.averages(params)
        same(place.read(params), before)
        assert not any(a is p for a, p in zip(averages, params, strict=True))
        found.append([place.read(averages), before])
    for a, b, p in zip(found[0][0], found[1][0], found[1][1], strict=True):
        assert a.dtype == NUMPY.asarray(a, dtype).dtype
        tolerance = 2 * precision(dtype) + 16 * precision("float32")
        np.testing.assert_allclose(wide(a), b, rtol=tolerance, atol=tolerance)
        assert np.max(np.abs(b - p)) > 100 * precision("float32")


@pytest.mark.parametrize("name", OWN)
def test_the_stage_comes_first(name: str) -> None:
    """With `ema_momentum` it is that average; the parameter itself for a momentum of 0."""
    opt, p = make(name, **steps(name), ema_momentum=0.0), np.ones(3)
    for _ in range(3):
        p = opt.apply(np.ones(3), p)
    same([opt.averages(p)], [p])


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("state_dtype", ["bfloat16", "int8"])
def test_stored_in_fewer_bits(name: str, state_dtype: str) -> None:
    """What is coded is decoded first."""
    kwargs = steps(name, lr=0.5)
    one, two = make(name, **kwargs), make(name, **kwargs, state_dtype=state_dtype)
    p, q = np.linspace(1, 2, 40), np.linspace(1, 2, 40)
    for _ in range(2):
        p, q = one.apply(np.ones(40), p), two.apply(np.ones(40), q)
    np.testing.assert_allclose(two.averages(q), one.averages(p), atol=0.1)


def test_groups() -> None:
    """Each group's own, with its own numbers, and the parameter where its optimizer has none."""
    groups = [
        ao.group("b", lr=0.2, momentum=0.5),
        ao.group("c", optimizer=ao.SGD(lr=0.1)),
        ao.group("d", freeze=True),
    ]
    opt, alone = ao.ScheduleFreeSGD(lr=0.1, groups=groups), ao.ScheduleFreeSGD(lr=0.2, momentum=0.5)
    params, single = {k: np.ones(2) for k in "abcd"}, {"b": np.ones(2)}
    for _ in range(4):
        params = opt.apply({k: np.ones(2) for k in "abcd"}, params)
        single = alone.apply({"b": np.ones(2)}, single)
    found = opt.averages(params)
    same([found["b"]], [alone.averages(single)["b"]])
    same([found["c"], found["d"]], [params["c"], np.ones(2)])
    assert np.all(found["a"] > params["a"])
    assert not np.shares_memory(found["c"], params["c"])


def test_there_are_none() -> None:
    """An error says so."""
    opt = ao.Adam()
    with pytest.raises(ValueError, match="Adam keeps none"):
        opt.averages(opt.apply(np.ones(2), np.ones(2)))


@pytest.mark.parametrize("power", [0.5, True, "x", None])
def test_powers_that_ftrl_refuses(power: Any) -> None:
    """A rate that grows, and what is no number."""
    with pytest.raises((TypeError, ValueError), match=r"Ftrl.learning_rate_power must be a number"):
        ao.Ftrl(learning_rate_power=power)


@pytest.mark.parametrize("power", [0.0, -0.25, -0.5, -1.0])
def test_powers_of_ftrl(power: float) -> None:
    """Two steps against the formula in plain numbers."""
    opt, w = ao.Ftrl(lr=0.5, learning_rate_power=power, l1_regularization_strength=0.1), 0.25
    found, n, z = np.array([w]), 0.1, 0.0
    for g in (1.5, -0.5):
        found = opt.apply(np.array([g]), found)
        before, n = n**-power, n + g * g
        z += g - (n**-power - before) / 0.5 * w
        w = (min(max(z, -0.1), 0.1) - z) / (n**-power / 0.5)
    np.testing.assert_allclose(found, [w], 1e-14)


def test_decay_within_a_rule_respects_exclusions_and_groups() -> None:
    """The coefficient of the rule is the stage's in what it leaves alone."""
    opt = ao.ScheduleFreeSGD(
        lr=0.1, weight_decay=0.5, exclude="bias", groups=[ao.group("scale", weight_decay=0.0)]
    )
    names = ["kernel", "bias", "scale"]
    params = opt.apply({k: np.zeros(2) for k in names}, {k: np.ones(2) for k in names})
    same([params["bias"], params["scale"]], [np.ones(2)] * 2)
    # One step goes to the base, which is lr * weight_decay below, from the point 1 of both.
    np.testing.assert_allclose(params["kernel"], 1 - 0.1 * 0.5, rtol=1e-15)
