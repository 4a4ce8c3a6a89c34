"""L-BFGS: against torch's and SciPy's, within bounds, in batches, compiled, resumed."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.arrays.trees import flatten
from arrayoptim.search.compiled import Compiled
from arrayoptim.search.packing import packing
from arrayoptim.search.searches import OnArrays
from arrayoptim.search.state_layout import Settings
from arrayoptim.step.checks import Leaf
from backends import TestBackend

START = np.full(10, -1.2)


def values(x: Any) -> Any:
    """Return Rosenbrock's function of the last axis, in any library."""
    return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(-1)


def slopes(x: np.ndarray) -> np.ndarray:
    away, found = x[..., 1:] - x[..., :-1] ** 2, np.zeros_like(x)
    found[..., 1:] += 200 * away
    found[..., :-1] += -400 * x[..., :-1] * away - 2 * (1 - x[..., :-1])
    return found


def rosenbrock(x: np.ndarray) -> Any:
    return values(x), slopes(x)


def test_to_the_minimum() -> None:
    optimizer = ao.LBFGS()
    found = ao.minimize(rosenbrock, START.copy(), optimizer)
    assert found.reason == "converged" and "gradient" in found.message
    np.testing.assert_allclose(found.params, 1.0, atol=1e-5)
    assert bool(optimizer.converged) and optimizer.values == rosenbrock(found.params)[0]
    assert optimizer.taken < optimizer.iterations == found.steps < 100


@pytest.mark.parametrize("way", [OnArrays, Compiled])
def test_the_trajectory_of_torch(way: Any) -> None:
    """Every point that is tried, with the same conditions, memory and search."""
    torch = pytest.importorskip("torch")
    tried: list[Any] = []
    x = torch.tensor(START, requires_grad=True)
    native = torch.optim.LBFGS(
        [x], max_iter=60, history_size=5, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Any:
        native.zero_grad()
        loss = values(x)
        loss.backward()
        tried.append(x.detach().numpy().copy())
        return loss

    native.step(closure)
    settings = Settings(1e-9, 0.0, 0.0)
    x = START.copy()
    described = packing([x], [Leaf("", (10,), "float64")], flatten(x)[1], False)
    found = way(described, 5, settings, None, [x])
    for point in tried[:60]:
        np.testing.assert_allclose(x, point, rtol=1e-7)
        (x,) = found.tell(float(values(point)), [slopes(point)], [x])
    assert found.named()["taken"] > 40


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.5), (-2.0, 0.3), (1.2, 3.0), (None, 0.4)])
def test_within_bounds_as_scipy(low: float | None, high: float) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    seen = []

    def loss(x: np.ndarray) -> Any:
        seen.append(x.copy())
        return rosenbrock(x)

    start = np.full(5, 0.25)
    found = ao.LBFGS(lower=low, upper=high, gtol=1e-7).solve(loss, start.copy())
    theirs = optimize.minimize(
        rosenbrock,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(low, high)] * 5,
        options={"gtol": 1e-9, "ftol": 0},
    )
    np.testing.assert_allclose(found, theirs.x, atol=1e-6)
    # The first point is the caller's, and may be outside.
    assert all(np.all(x >= (-np.inf if low is None else low)) for x in seen[1:])
    assert all(np.all(x <= high) for x in seen[1:])


def test_bounds_of_each_entry() -> None:
    params = {"a": np.zeros(3), "b": np.zeros(2, np.float32)}
    upper = {"a": np.array([1.0, 5.0, 2.0]), "b": np.array([0.5, np.inf])}

    def loss(p: Any) -> Any:
        return sum(float(np.sum((x - 3.0) ** 2)) for x in p.values()), {
            k: 2 * (x - 3) for k, x in p.items()
        }

    found = ao.LBFGS(upper=upper).solve(loss, params)
    np.testing.assert_allclose(found["a"], [1.0, 3.0, 2.0], atol=1e-5)
    np.testing.assert_allclose(found["b"], [0.5, 3.0], atol=1e-5)
    with pytest.raises(ValueError, match="bounds: found arrays of"):
        ao.LBFGS(upper={"a": upper["a"]}).solve(loss, params)
    with pytest.raises(ValueError, match="a lower bound lies above"):
        ao.LBFGS(lower=2.0, upper=upper).solve(loss, params)


def test_each_of_a_batch_as_if_alone() -> None:
    """They need numbers of steps of their own, and wait for none."""
    starts = np.random.default_rng(3).normal(size=(7, 4))
    batch = ao.LBFGS(batched=True)
    found = batch.solve(rosenbrock, starts.copy())
    assert batch.converged.shape == batch.values.shape == (7,) and batch.converged.all()
    assert len(set(batch.taken.tolist())) > 1
    for start, point, taken in zip(starts, found, batch.taken, strict=True):
        alone = ao.LBFGS()
        np.testing.assert_allclose(alone.solve(rosenbrock, start.copy()), point, atol=1e-9)
        assert alone.taken == taken


def test_every_library(backend: TestBackend) -> None:
    with ao.engine("array"):
        search_by(backend)


@pytest.mark.slow
def test_float32_in_machine_code(backend: TestBackend) -> None:
    """On NumPy and torch; other libraries' arrays are left to themselves."""
    search_by(backend)


def search_by(backend: TestBackend) -> None:
    optimizer = ao.LBFGS()
    params = {"x": backend.asarray(np.full(4, -1.0, np.float32))}

    def loss(p: Any) -> Any:
        x = backend.to_numpy(p["x"]).astype(np.float64)
        return float(values(x)), {"x": backend.asarray(slopes(x).astype(np.float32))}

    found = params
    for _ in range(60):
        value, gradients = loss(found)
        found = optimizer.apply(gradients, found, value=value)
    found = optimizer.best(found)
    assert (found is params) == backend.in_place
    np.testing.assert_allclose(backend.to_numpy(found["x"]), 1.0, atol=2e-2)


BOXES: list[dict[str, Any]] = [{}, {"lower": -0.5, "upper": 0.8}, {"memory": 2, "ftol": 1e-6}]


@pytest.mark.parametrize("settings", BOXES)
@pytest.mark.parametrize("batched", [False, True])
def test_engines_agree(settings: dict[str, Any], batched: bool) -> None:
    """Points and steps are those of arrays, within rounding, until both have ended."""
    starts = np.random.default_rng(3).normal(size=(7, 4))
    start, ways = starts if batched else starts[0], {}
    for name in ("array", "cpu"):
        with ao.engine(name):
            optimizer, seen = ao.LBFGS(batched=batched, **settings), list[np.ndarray]()

            def loss(x: np.ndarray, seen: list[np.ndarray] = seen) -> Any:
                seen.append(x.copy())
                return rosenbrock(x)

            found = optimizer.solve(loss, start.copy())
            ways[name] = np.array(seen), found, optimizer
    (points, found, one), (others, other, two) = ways["array"], ways["cpu"]
    assert np.array_equal(one.converged, two.converged) and np.all(two.converged)
    assert np.array_equal(one.taken, two.taken) and one.iterations == two.iterations
    np.testing.assert_allclose(other, found, atol=1e-9)
    np.testing.assert_allclose(others[:20], points[:20], atol=1e-9)
    for x, y in zip(one.get_weights(), two.get_weights(), strict=True):
        assert x.shape == y.shape


def test_from_engine_to_engine() -> None:
    """A search goes on where another one is asked for, with the same state."""
    x, y = START.copy(), START.copy()
    one, other = ao.LBFGS(), ao.LBFGS()
    for k in range(40):
        x = one.minimize(rosenbrock, x)
        with ao.engine("array" if k % 3 else "auto"):
            y = other.minimize(rosenbrock, y)
    np.testing.assert_allclose(y, x, atol=1e-8)
    assert one.taken == other.taken > 20


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_go_on(again: Any) -> None:
    one, x = ao.LBFGS(memory=4, upper=2.0), START.copy()
    for _ in range(20):
        x = one.minimize(rosenbrock, x)
    other, y = again(one), x.copy()
    for _ in range(20):
        x, y = one.minimize(rosenbrock, x), other.minimize(rosenbrock, y)
    assert np.array_equal(x, y) and one.values == other.values


def test_torch_tensors_share_the_loops() -> None:
    torch = pytest.importorskip("torch")
    x = {"a": torch.tensor(START[:4]), "b": torch.tensor(START[4:])}
    y = START.copy()
    one, other = ao.LBFGS(), ao.LBFGS()
    for _ in range(30):
        flat = np.concatenate([t.numpy() for t in x.values()])
        value, slope = rosenbrock(flat)
        slopes = torch.tensor(slope)
        version = x["a"]._version
        one.apply({"a": slopes[:4], "b": slopes[4:]}, x, value=torch.tensor(value))
        assert x["a"]._version > version
        y = other.minimize(rosenbrock, y)
    assert np.array_equal(np.concatenate([t.numpy() for t in x.values()]), y)
    assert all(isinstance(w, torch.Tensor) for w in one.weights if getattr(w, "ndim", 0))


def test_read_only_parameters() -> None:
    """They come back new, and what came back stays as it is."""
    optimizer, x = ao.LBFGS(), START.copy()
    seen = []
    for _ in range(5):
        x.flags.writeable = False
        new = optimizer.minimize(rosenbrock, x)
        assert new is not x
        seen.append((new, new.copy()))
        x = new
    assert all(np.array_equal(a, b) for a, b in seen)


def test_an_engine_that_cannot_serve() -> None:
    xp = pytest.importorskip("array_api_strict")
    x = xp.asarray([1.0, 2.0])
    with ao.engine("cpu"), pytest.raises(ValueError, match='engine "cpu" cannot serve LBFGS'):
        ao.LBFGS().apply(x, x, value=1.0)
    ao.LBFGS().apply(x, x, value=1.0)


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays serve."""
    monkeypatch.setattr("arrayoptim.engines.cpu.serving._has_numba", lambda: False)
    found = ao.minimize(rosenbrock, START.copy(), ao.LBFGS())
    assert found.reason == "converged"
    with ao.engine("cpu"), pytest.raises(ValueError, match="Numba is not installed"):
        ao.LBFGS().init(START.copy())


def test_with_numba_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As programs are that measure what tests cover: neither a search nor a step is compiled."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert "NUMBA_DISABLE_JIT is set" in str(ao.explain(START.copy()))
    x = START.copy()
    ao.LBFGS().apply(slopes(x), x, value=values(x))
    with ao.engine("cpu"):
        with pytest.raises(ValueError, match="NUMBA_DISABLE_JIT is set"):
            ao.LBFGS().apply(slopes(x), x, value=values(x))
        with pytest.raises(ValueError, match="NUMBA_DISABLE_JIT is set"):
            ao.Adam().apply(slopes(x), x)


@pytest.mark.slow
def test_compiled_by_jax() -> None:
    """One program for the whole search, of one problem and of several."""
    jax = pytest.importorskip("jax")
    starts = np.random.default_rng(3).normal(size=(5, 4))
    with jax.enable_x64(True):
        for batched, start in ((False, starts[0]), (True, starts)):
            optimizer = ao.LBFGS(batched=batched)
            both = jax.value_and_grad(values)
            both = jax.vmap(both) if batched else both

            def run(x: Any, optimizer: Any = optimizer, both: Any = both) -> Any:
                def body(carry: Any) -> Any:
                    x, state = carry
                    value, gradient = both(x)
                    return optimizer.stateless_apply(state, gradient, x, value)

                begun = x, optimizer.init_state(x)
                x, state = jax.lax.while_loop(lambda c: (c[1]["stage"] < 3).any(), body, begun)
                return optimizer.stateless_best(state, x)

            expected = ao.LBFGS(batched=batched).solve(rosenbrock, start.copy())
            np.testing.assert_allclose(jax.jit(run)(start), expected, atol=1e-6)


def test_resume_is_exact(tmp_path: Path) -> None:
    whole = ao.minimize(rosenbrock, START.copy(), ao.LBFGS(memory=3), steps=40)
    path = tmp_path / "run.h5"
    half = ao.minimize(rosenbrock, START.copy(), ao.LBFGS(memory=3), steps=23, checkpoint=path)
    rest = ao.minimize(rosenbrock, START.copy(), ao.LBFGS(memory=3), steps=40, checkpoint=path)
    assert half.steps == 23 and rest.history == whole.history
    assert np.array_equal(rest.params, whole.params)
    assert ao.load(path).get_config()["memory"] == 3


def test_going_on_from_the_best_point() -> None:
    """An evaluation there is one more, and changes nothing."""
    one, other = ao.LBFGS(), ao.LBFGS()
    x, y = START.copy(), START.copy()
    for _ in range(20):
        x, y = one.minimize(rosenbrock, x), other.minimize(rosenbrock, y)
    trial = y.copy()
    other.best(y)
    assert not np.array_equal(y, trial) and other.values == values(y)
    other.minimize(rosenbrock, y)
    assert np.array_equal(y, trial)
    for _ in range(20):
        x, y = one.minimize(rosenbrock, x), other.minimize(rosenbrock, y)
    assert np.array_equal(x, y)


def test_a_loss_that_is_not_everywhere() -> None:
    """A trial where it is not finite only shortens the step; a start there ends it."""

    def loss(x: np.ndarray) -> Any:
        with np.errstate(all="ignore"):
            return float(np.sum(x - np.log(x))), 1 - 1 / x

    found = ao.minimize(loss, np.array([1e-3, 4.0]), ao.LBFGS())
    assert found.reason == "converged"
    np.testing.assert_allclose(found.params, 1.0, atol=1e-4)
    assert ao.minimize(loss, np.array([-1.0]), ao.LBFGS()).reason == "nonfinite"


def test_a_gradient_that_lies() -> None:
    found = ao.minimize(lambda x: (float(np.sum(x**2)), -x), np.ones(2), ao.LBFGS(), steps=200)
    assert found.reason == "stuck" and "lowers the loss" in found.message
    assert np.array_equal(found.params, np.ones(2))


def test_updates_change_nothing() -> None:
    optimizer, x = ao.LBFGS(), START.copy()
    for _ in range(3):
        optimizer.minimize(rosenbrock, x)
    before = optimizer.get_weights()
    updates = optimizer.get_updates(x, rosenbrock)
    for a, b in zip(before, optimizer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    expected = x.copy()
    optimizer.minimize(rosenbrock, expected)
    np.testing.assert_array_equal(updates[-1][1], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory": 0}, "LBFGS.memory: found 0"),
        ({"trials": 2.5}, "LBFGS.trials: found 2.5"),
        ({"gtol": -1.0}, "LBFGS.gtol: found -1.0"),
        ({"ftol": math.nan}, "LBFGS.ftol"),
        ({"curvature": 1e-5}, "0 < decrease < curvature < 1"),
    ],
)
def test_numbers_outside_their_intervals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ao.LBFGS(**arguments)


def test_what_is_refused() -> None:
    x = np.ones(2)
    with pytest.raises(TypeError, match="found no value"):
        ao.LBFGS().apply(x, x.copy())
    with pytest.raises(TypeError, match="wanted real parameters"):
        ao.LBFGS().apply(x + 0j, x + 0j, value=1.0)
    with pytest.raises(ValueError, match="is None, wanted all of them"):
        ao.LBFGS().apply([x, None], [x.copy(), x.copy()], value=1.0)
    y = np.ones(3)
    with pytest.raises(ValueError, match="wanted one leading axis"):
        ao.LBFGS(batched=True).apply([x, y], [x.copy(), y.copy()], value=[1.0, 1.0])
    with pytest.raises(ValueError, match=r"loss of shape \(3,\)"):
        ao.LBFGS(batched=True).apply(x, x.copy(), value=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="no state yet"):
        ao.LBFGS().best(x)
    with pytest.raises(TypeError, match=r"the pair \(values, gradients\)"):
        ao.LBFGS(batched=True).solve(values, np.ones((2, 3)))
    with pytest.raises(ValueError, match="found \\['memry'\\]"):
        ao.LBFGS.from_config({"memry": 3})
    assert np.array_equal(x, np.ones(2))
    assert repr(ao.get("lbfgs")) == "LBFGS()" and repr(ao.LBFGS(memory=3)) == "LBFGS(memory=3)"
