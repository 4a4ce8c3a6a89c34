"""Schedules against the figures recorded from Keras 3, torch, optax and natural_bm."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from places import TESTS

s = ao.schedules
GOLDEN = json.loads((TESTS / "golden_peers" / "schedules.json").read_text())
STEPS = GOLDEN["steps"]


def close(found: Any, wanted: Any) -> None:
    """Assert equality but for rounding."""
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("row", GOLDEN["keras"]["schedules"], ids=lambda row: row["class_name"])
def test_keras(row: dict[str, Any]) -> None:
    """The six of Keras 3 by their own arguments and by their own configurations."""
    schedule = getattr(s, row["class_name"])(**row["arguments"])
    close([schedule(step) for step in STEPS], row["values"])
    read = ao.Adam(lr=row["serialized"])
    for step in STEPS:
        read.iterations = step
        assert read.lr == schedule(step)


def test_every_schedule_of_keras_is_recorded() -> None:
    """Six classes."""
    assert len({row["class_name"] for row in GOLDEN["keras"]["schedules"]}) == 6


@pytest.mark.parametrize("row", GOLDEN["keras"]["plateaus"], ids=lambda r: str(r["arguments"]))
def test_plateau_of_keras(row: dict[str, Any]) -> None:
    """The rates that Keras's callback sets after each metric."""
    opt = ao.SGD(lr=s.Plateau(0.1, **row["arguments"]))
    opt.init(np.zeros(1))
    found = []
    for metric in row["metrics"]:
        opt.observe(metric)
        found.append(opt.lr)
    close(found, row["values"])
    assert len(set(found)) > 1


@pytest.mark.parametrize("row", GOLDEN["torch"]["cycles"], ids=lambda r: str(r["arguments"]))
def test_one_cycle_of_torch(row: dict[str, Any]) -> None:
    """Rate and momentum, which falls from 0.95 to 0.85 and rises again."""
    arguments, steps = row["arguments"], range(row["arguments"]["total_steps"])
    close([s.OneCycle(0.5, **arguments)(step) for step in steps], row["lr"])
    factors = {"div_factor": 0.85 / 0.95, "final_div_factor": 1.0}
    momentum = s.OneCycle(0.85, **{**arguments, **factors})
    close([momentum(step) for step in steps], row["momentum"])
    assert momentum(10_000) == momentum(steps[-1])


def test_warmup_of_torch() -> None:
    """LinearLR."""
    warmup = s.LinearWarmup(0.1, 12, initial_learning_rate=0.025)
    close([warmup(step) for step in range(20)], GOLDEN["torch"]["warmup"])


def test_optax() -> None:
    """Warm-up, warm-up-stable-decay, and what is joined."""
    ours = {
        "warmup": s.LinearWarmup(0.2, 25, 0.01),
        "warmup_stable_decay": s.WarmupStableDecay(0.2, 10, 20, 40, 0.01, 0.05),
        "warmup_stable_cosine": s.WarmupStableDecay(0.2, 10, 20, 40, decay="cosine"),
        "joined": s.join(
            [s.LinearWarmup(0.2, 10), s.ExponentialDecay(0.2, 7, 0.5), s.CosineDecay(0.1, 30)],
            [10, 40],
        ),
    }
    assert set(ours) == set(GOLDEN["optax"])
    for name, schedule in ours.items():
        close([schedule(step) for step in STEPS], GOLDEN["optax"][name])


@pytest.mark.parametrize("numbers", [(0.9, 0.004, 475000), (0.7, 0.5, 6), (0.8, 2.0, 0)])
def test_momentum_ramp_is_that_of_sgd(numbers: tuple[float, float, int]) -> None:
    """As a schedule and as SGD's own arguments, which natural_bm's recorded runs confirm."""
    momentum, rate, last = numbers
    one = ao.SGD(momentum=s.MomentumRamp(momentum, rate, last))
    two = ao.SGD(momentum=momentum, schedule_decay=rate, mom_iter_max=last)
    a, b = np.ones(3), np.ones(3)
    two.init(b)
    for _ in range(10):
        assert one.momentum == two.ramped_momentum
        one.apply(np.array([1.0, -2.0, 0.5]), a)
        two.apply(np.array([1.0, -2.0, 0.5]), b)
        np.testing.assert_array_equal(a, b)
