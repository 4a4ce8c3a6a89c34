"""From state as a value to state of an optimizer's own, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.step.session import session_of
from backends import TestBackend
from optimizers_under_test import draw, make, same

SHAPES = [(2, 3), (4,)]


def arrays(seed: int, backend: TestBackend) -> dict[str, Any]:
    return dict(zip("ab", backend.tree(draw(seed, SHAPES)), strict=True))


def pure(opt: Any, state: Any, params: Any, steps: range, backend: TestBackend) -> Any:
    for step in steps:
        params, state = opt.stateless_apply(state, arrays(10 + step, backend), params)
    return params, state


def own(opt: Any, params: Any, steps: range, backend: TestBackend) -> Any:
    for step in steps:
        params = opt.apply(arrays(10 + step, backend), params)
    return params


def close(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    """Assert that they agree but for the rounding of a compiled step."""
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


def test_there_and_back(name: str, kwargs: dict[str, Any], backend: TestBackend) -> None:
    """Two steps of each form by turns are what either form gives."""
    opt, params = make(name, **kwargs), arrays(1, backend)
    params, state = pure(opt, opt.init_state(params), params, range(2), backend)
    report = opt.load_state(state, params)
    assert not report.faults and opt.iterations == 2
    params = own(opt, params, range(2, 4), backend)
    params, state = pure(opt, opt.export_state(params), params, range(4, 6), backend)
    other, wanted = make(name, **kwargs), arrays(1, backend)
    wanted, held = pure(other, other.init_state(wanted), wanted, range(6), backend)
    close(backend.read([*params.values()]), backend.read([*wanted.values()]))
    twin = make(name, **kwargs)
    twin.load_state(state, params)
    other.load_state(held, wanted)
    close(twin.get_weights(), other.get_weights())


def test_a_file_of_a_pure_loop(backend: TestBackend, tmp_path: Path) -> None:
    """What was computed without an optimizer's state is saved by one."""
    opt, params = make("Adam"), arrays(1, backend)
    params, state = pure(opt, opt.init_state(params), params, range(3), backend)
    opt.load_state(state, params)
    opt.save_weights(tmp_path / "adam.h5")
    loaded = ao.load(tmp_path / "adam.h5")
    found = dict(zip("ab", backend.read([*params.values()]), strict=True))
    loaded.init(found)
    same(loaded.get_weights(), opt.get_weights())


def test_a_number_in_place_of_a_schedule() -> None:
    """What the pure form steps with is what goes on."""
    opt, p = make("SGD", lr=ao.schedules.CosineDecay(0.5, 10)), np.ones(2)
    state = opt.init_state(p)
    state["hyper"]["lr"] = 0.25
    opt.load_state(state, p)
    assert opt.lr == 0.25


def test_after_an_interrupted_step() -> None:
    """Loading is the way on."""
    opt, p = make("SGD", momentum=0.9), np.ones(2)
    opt.apply(p, p.copy())
    state = opt.export_state(p)
    kept = session_of(opt).state
    assert kept is not None
    kept.interrupted = True
    with pytest.raises(ValueError, match="shape"):
        opt.load_state(state, np.ones(3))
    assert kept.interrupted
    opt.load_state(state, p)
    assert opt.apply(p, p.copy()) is not None and opt.iterations == 2


def test_numbers_of_the_state(backend: TestBackend) -> None:
    """A learning rate in the state is taken over; one of a group is for the caller to set."""
    opt, params = make("SGD", groups=[ao.group("a", momentum=0.5)]), arrays(1, backend)
    state = opt.init_state(params)
    opt.load_state({**state, "hyper": {**state["hyper"], "lr": 0.5}}, params)
    assert opt.lr == 0.5
    with pytest.raises(ValueError, match=r"group 1: found momentum=0.25 in the state"):
        opt.load_state({**state, "hyper": {**state["hyper"], "1.momentum": 0.25}}, params)


def test_exported_arrays_are_copies() -> None:
    """A later step does not change them."""
    opt, params = make("SGD", momentum=0.9), {"a": np.ones(3)}
    opt.apply({"a": np.ones(3)}, params)
    state = opt.export_state(params)
    before = state["slots"]["momentum"]["a"].copy()
    opt.apply({"a": np.ones(3)}, params)
    same([state["slots"]["momentum"]["a"]], [before])


@pytest.mark.parametrize(
    ("name", "options"),
    [("SGD", {"ema_momentum": 0.5}), ("ScheduleFreeSGD", {}), ("ScheduleFreeAdamW", {})],
    ids=["ema", "sgd", "adamw"],
)
def test_averages(name: str, options: dict[str, Any], backend: TestBackend) -> None:
    """The pure form has its averages, those of the other form."""
    opt, params = make(name, lr=0.1, **options), arrays(1, backend)
    params, state = pure(opt, opt.init_state(params), params, range(3), backend)
    found = opt.stateless_averages(state, params)
    assert not opt.built
    opt.load_state(state, params)
    wanted = opt.averages(params)
    same(backend.read([*found.values()]), backend.read([*wanted.values()]))
    difference = backend.read([found["a"]])[0] - backend.read([params["a"]])[0]
    assert np.max(np.abs(difference)) > 1e-6


@pytest.mark.needs("jax")
def test_averages_under_jit() -> None:
    """Compiled, under a hyperparameter of the state."""
    jax = pytest.importorskip("jax")
    opt, p = make("ScheduleFreeSGD", lr=0.1), jax.numpy.ones(3)
    p, state = opt.stateless_apply(opt.init_state(p), p, p)
    average = opt.stateless_averages
    same(*([np.asarray(f(state, p))] for f in (average, jax.jit(average))))


def test_there_is_no_state_yet() -> None:
    """It is said, and none is made."""
    opt, p = make("SGD", ema_momentum=0.5), np.ones(3)
    for call in (opt.averages, opt.export_state):
        with pytest.raises(ValueError, match="has no state yet"):
            call(p)
    assert not opt.built


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (None, "found NoneType, wanted a state as from init_state"),
        ({"iterations": 1}, "found iterations, wanted a state as from init_state"),
        ({"iterations": 1, "more": 2}, "found iterations, more, wanted a state as from init_state"),
        ({**dict.fromkeys(["iterations", "skipped", "hyper", "scalars", "slots"])}, "keys hyper"),
        (ao.SGD(momentum=0.9).init_state(np.ones(4)), "found shape"),
        (ao.Adam().init_state(np.ones(3)), "has no numeric hyperparameter .beta_1."),
    ],
    ids=["none", "dict", "more", "nothing", "shape", "other"],
)
def test_a_state_that_does_not_fit(state: Any, words: str, tmp_path: Path) -> None:
    """Nothing has changed then: what a file gave before still waits."""
    first, p = make("SGD", momentum=0.9), np.ones(3)
    first.apply(p, np.ones(3))
    first.save_weights(tmp_path / "sgd.h5")
    opt = make("SGD", momentum=0.9)
    opt.load_weights(tmp_path / "sgd.h5")
    with pytest.raises(ValueError, match=words):
        opt.load_state(state, np.ones(3))
    assert not opt.built and opt.iterations == 1
    opt.init(np.ones(3))
    same(opt.get_weights(), first.get_weights())
