"""The schedule that watches a metric, and where its numbers are."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.step.session import session_of
from arrayoptim.testing import check_optimizer
from backends import TestBackend
from optimizers_under_test import cls_of, make, same

s = ao.schedules
METRICS = [1.0, 1.0, 0.5, 0.6, 0.7, 0.7, float("nan"), 0.4, float("inf")]
NAMES = ["scale", "best", "waited", "rest"]


def plateau(**changes: Any) -> Any:
    """Return a schedule that reduces often."""
    return s.Plateau(**{"schedule": 0.1, "factor": 0.5, "patience": 1, "cooldown": 1, **changes})


def run(opt: Any, params: Any, metrics: list[float]) -> Any:
    """Return the parameters after a step before each metric."""
    for metric in metrics:
        params = opt.apply(np.array([0.5, -1.0, 2.0]), params)
        opt.observe(metric)
    return params


def test_survives_every_way_of_keeping_state(name: str, tmp_path: Path) -> None:
    """List, file, pickle and copy go on as the run that never stopped."""
    whole, path = make(name, lr=plateau()), tmp_path / "w.h5"
    params = run(whole, np.ones(3), METRICS[:4])
    assert whole.lr < 0.1
    whole.save_weights(path)
    listed, loaded = make(name, lr=plateau()), make(name)
    listed.init(params)
    listed.set_weights(whole.get_weights())
    loaded.init(params)
    loaded.load_weights(path)
    others = [listed, loaded, ao.load(path), copy.deepcopy(whole)]
    others.append(pickle.loads(pickle.dumps(whole)))
    copies = [params.copy() for _ in others]
    params = run(whole, params, METRICS[4:])
    for opt, own in zip(others, copies, strict=True):
        same([run(opt, own, METRICS[4:])], [params])
        same(opt.get_weights(), whole.get_weights())
        assert opt.lr == whole.lr


def test_conformance(name: str) -> None:
    """What users rely on holds with numbers of a schedule in the state."""
    check_optimizer(cls_of(name), lr=plateau())


def test_the_numbers_are_state() -> None:
    """Four, by the name of the hyperparameter; the schedule itself stays as it was."""
    schedule = plateau()
    opt = ao.Nadam(lr=schedule)
    opt.init(np.ones(3))
    before = copy.deepcopy(schedule)
    scalars = [float(x) for x in opt.get_weights()[1:6]]
    assert scalars[1:] == [1.0, float(np.finfo(np.float32).max), 0.0, 0.0]
    run(opt, np.ones(3), [2.0, 3.0])
    assert [getattr(opt, f"lr.{name}") for name in NAMES] == [0.5, 2.0, 0.0, 1.0]
    assert schedule == before
    assert opt.lr == 0.05
    other = ao.Nadam(lr=schedule)
    assert other.lr == 0.1


def test_metrics_that_are_not_finite_improve_nothing() -> None:
    """They count as metrics, and never become the best."""
    for mode, value in (("min", -np.inf), ("max", np.inf), ("min", np.nan)):
        opt = ao.SGD(lr=plateau(mode=mode, cooldown=0))
        run(opt, np.ones(3), [1.0, value])
        assert opt.lr == 0.05
        assert getattr(opt, "lr.best") == 1.0


def test_over_a_schedule_in_groups_and_several() -> None:
    """Every place keeps numbers of its own."""
    warm = s.LinearWarmup(0.4, 4)
    opt = ao.SGD(
        lr=plateau(schedule=warm),
        weight_decay=plateau(schedule=0.01, mode="max"),
        groups=[ao.group("b", lr=plateau(patience=2)), ao.group("c", optimizer=ao.Adam(plateau()))],
    )
    params = {"a": np.ones(2), "b": np.ones(2), "c": np.ones(2)}
    grads = {key: np.zeros(2) for key in params}
    opt.init(params)
    prefixes = ["lr", "weight_decay", "1.lr", "2.lr"]
    assert len(opt.get_weights()[1:]) >= 16
    assert all(getattr(opt, f"{p}.scale") == 1.0 for p in prefixes)
    for metric in (1.0, 2.0):
        opt.apply(grads, params)
        opt.observe(metric)
    assert [getattr(opt, f"{p}.scale") for p in prefixes] == [0.5, 1.0, 1.0, 0.5]
    assert opt.lr == pytest.approx(0.5 * 0.4 * 2 / 4)
    moved = {key: value.copy() for key, value in params.items()}
    opt.apply({key: np.ones(2) for key in params}, moved)
    session = session_of(opt)
    values = session.settings.at(session.iterations, session.scalars)
    rate, decay = values[1]["lr"], opt.weight_decay
    assert rate == 0.1
    np.testing.assert_allclose(moved["b"], params["b"] * (1 - rate * decay) - rate)


@pytest.mark.needs("jax")
def test_compiled() -> None:
    """Steps and metrics in compiled functions: one compile each, as in place."""
    import jax
    import jax.numpy as jnp

    opt, host, wanted = ao.Adam(lr=plateau()), ao.Adam(lr=plateau()), np.ones(3)
    gradient = jnp.asarray([0.5, -1.0, 2.0], "float32")
    params = jnp.ones(3, "float32")
    state = opt.init_state(params)
    step = jax.jit(lambda state, params: opt.stateless_apply(state, gradient, params))
    observe = jax.jit(opt.stateless_observe)
    eager = state
    for metric in METRICS:
        wanted = run(host, wanted, [metric])
        params, state = step(state, params)
        state = observe(state, metric)
        eager = opt.stateless_observe(eager, np.float32(metric))
        for name in NAMES:
            found = getattr(host, f"lr.{name}")
            assert float(state["scalars"][f"lr.{name}"]) == pytest.approx(found, rel=1e-6)
            assert float(eager["scalars"][f"lr.{name}"]) == pytest.approx(found, rel=1e-6)
    assert step._cache_size() == observe._cache_size() == 1
    np.testing.assert_allclose(params, wanted, rtol=1e-5)
    assert host.lr < 0.05


def test_metrics_of_any_library(backend: TestBackend) -> None:
    """A 0-d array stands for its number, in place and in the pure form."""
    opt = ao.SGD(lr=plateau())
    opt.init(np.ones(3))
    state = opt.init_state(np.ones(3))
    for metric in (2.0, 3.0):
        opt.observe(backend.asarray(np.array(metric), "float32"))
        state = opt.stateless_observe(state, backend.asarray(np.array(metric), "float32"))
    assert opt.lr == 0.05
    assert [float(state["scalars"][f"lr.{name}"]) for name in NAMES] == [0.5, 2.0, 0.0, 1.0]


def test_pure_form_on_the_host() -> None:
    """The same numbers without JAX."""
    opt, host, params = ao.SGD(lr=plateau()), ao.SGD(lr=plateau()), np.ones(3)
    wanted = np.ones(3)
    state = opt.init_state(params)
    for metric in METRICS:
        wanted = run(host, wanted, [metric])
        params, state = opt.stateless_apply(state, np.array([0.5, -1.0, 2.0]), params)
        state = opt.stateless_observe(state, metric)
    np.testing.assert_array_equal(params, wanted)
    assert state["scalars"]["lr.scale"] == getattr(host, "lr.scale")


def test_setting_it_between_steps() -> None:
    """It begins anew when set, and leaves nothing when something else is."""
    opt, params = ao.Nadam(), np.ones(3)
    opt.apply(params, params)
    count = len(opt.get_weights())
    opt.lr = plateau()
    assert len(opt.get_weights()) == count + 4
    run(opt, params, [1.0, 2.0])
    assert opt.lr == 0.05
    fresh = ao.Nadam(lr=plateau())
    fresh.init(params)
    fresh.set_weights(opt.get_weights())
    assert (fresh.lr, fresh.m_schedule) == (opt.lr, opt.m_schedule)
    opt.lr = plateau(schedule=0.3)
    assert opt.lr == 0.3
    opt.lr = 0.2
    opt.apply(params, params)
    assert len(opt.get_weights()) == count


def test_bad_calls() -> None:
    """Nothing to feed, nothing fed, too early."""
    with pytest.raises(ValueError, match=r"SGD.* has no schedule that takes a metric"):
        ao.SGD().observe(1.0)
    with pytest.raises(ValueError, match=r"has no schedule that takes a metric"):
        ao.SGD().stateless_observe(ao.SGD().init_state(np.ones(1)), 1.0)
    opt = ao.SGD(lr=plateau())
    with pytest.raises(ValueError, match=r"call init\(params\) first"):
        opt.observe(1.0)
    opt.init(np.ones(3))
    for metric in ("low", None, [1.0]):
        with pytest.raises(TypeError, match="wanted a number"):
            opt.observe(metric)
