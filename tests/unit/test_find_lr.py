"""The search for a learning rate: what it finds, and that it leaves everything as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend

CURVATURE = np.array([1.0, 10.0])


def bowl(x: Any) -> tuple[float, Any]:
    """Return a quadratic form, on which descent diverges from a rate of 2 / 10 on."""
    return float(np.sum(CURVATURE * x * x) / 2), CURVATURE * x


def test_what_it_finds() -> None:
    """The run ends once it diverges; the suggestion is a rate that converges."""
    found = ao.find_lr(bowl, np.ones(2), ao.SGD(), low=1e-5, high=1e3)
    assert found.reason == "diverged" and 0.2 < found.rates[-1] < 1e3
    assert 1e-3 < found.suggestion < 0.2
    run = ao.minimize(bowl, np.ones(2), ao.SGD(found.suggestion), 300)
    assert run.history[-1] < 1e-3 * run.history[0]
    assert found.rates[:2] == pytest.approx((1e-5, 1e-5 * 10 ** (8 / 99)))


def test_the_losses_are_those_of_a_run() -> None:
    """Each rate takes one step from where the one before has led."""
    found, x = ao.find_lr(bowl, np.ones(2), "sgd", low=1e-3, high=1e-2, steps=8), np.ones(2)
    for rate, value in zip(found.rates, found.losses, strict=True):
        assert value == bowl(x)[0]
        x = x - rate * (CURVATURE * x)
    assert found.reason == "steps" and len(found.rates) == 8


@pytest.mark.parametrize("wrapped", [False, True])
def test_nothing_changes(backend: TestBackend, wrapped: bool) -> None:
    """Parameters and state are the same to the last bit, also where the loss fails."""
    optimizer: Any = ao.Adam(ao.schedules.CosineDecay(0.1, 50), skip_spikes=9.0)
    optimizer = ao.GradientAccumulation(optimizer, every=2) if wrapped else optimizer
    params = {"w": backend.asarray(np.ones(2))}

    def loss(p: Any) -> Any:
        value, g = bowl(backend.to_numpy(p["w"]))
        return value, {"w": backend.asarray(g)}

    for _ in range(3):
        params = optimizer.apply(loss(params)[1], params)
    before = backend.to_numpy(params["w"]).copy(), optimizer.get_weights(), optimizer.get_config()
    ao.find_lr(loss, params, optimizer, steps=20)
    calls = iter(range(5))

    def fails(p: Any) -> Any:
        return loss(p) if next(calls, None) is not None else 1 / 0

    with pytest.raises(ZeroDivisionError):
        ao.find_lr(fails, params, optimizer)
    after = backend.to_numpy(params["w"]), optimizer.get_weights(), optimizer.get_config()
    assert np.array_equal(before[0], after[0]) and before[2] == after[2]
    assert all(map(np.array_equal, before[1], after[1]))


def test_no_suggestion() -> None:
    """There is none where the loss never falls, or is not finite from the start."""
    rising = ao.find_lr(lambda x: (float(x[0]), -np.ones(1)), np.zeros(1), ao.SGD(), steps=10)
    assert rising.suggestion is None
    nothing = ao.find_lr(lambda x: (np.nan, x), np.zeros(1), ao.SGD())
    assert (nothing.reason, nothing.rates, nothing.suggestion) == ("nonfinite", (), None)
    assert "0 rates" in repr(nothing) and "suggestion=none" in nothing._repr_html_()


def test_pictures() -> None:
    """Curve, average and suggestion; a small curve for notebooks."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    found = ao.find_lr(bowl, np.ones(2), ao.SGD())
    axes = found.plot()
    assert axes.get_xscale() == "log" and len(axes.lines) == 3
    assert "<svg" in found._repr_html_() and "RateSearch(" in found._repr_html_()


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"loss": 3}, TypeError, "loss: found int"),
        ({"low": 0.0}, ValueError, "low: found 0.0"),
        ({"high": 1e-9}, ValueError, "high: found 1e-09"),
        ({"steps": 3}, ValueError, "steps: found 3"),
        ({"diverged": 1.0}, ValueError, "diverged: found 1.0"),
        ({"optimizer": ao.LBFGS()}, TypeError, "wanted one with a learning rate"),
    ],
)
def test_bad_input(given: dict[str, Any], kind: type[Exception], message: str) -> None:
    """It says what was found and what was wanted."""
    with pytest.raises(kind, match=message):
        ao.find_lr(**{"loss": bowl, "params": np.ones(2), "optimizer": ao.SGD(), **given})
