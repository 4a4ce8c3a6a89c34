"""Transformations of optax behind our surface, on the arrays of every library."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
import foreign_checks as checks
from backends import TestBackend
from optimizers_under_test import same

optax = pytest.importorskip("optax")
jax = pytest.importorskip("jax")


def labelled() -> Any:
    """Return a transformation that must see the tree as it is."""
    rows = {"a": optax.adam(0.1), "s": optax.sgd(0.1, momentum=0.9)}
    return optax.multi_transform(rows, {"b": ["s", None], "layer/w": "a", "scale": "a"})


def injected() -> Any:
    """Return a transformation with hyperparameters in its state."""
    rate = optax.cosine_decay_schedule(0.1, 100)
    sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=rate, momentum=0.9)
    return optax.chain(optax.clip_by_global_norm(0.5), sgd)


CASES: dict[str, Callable[[], Any]] = {
    "adam": lambda: optax.adam(0.1),
    "injected": injected,
    "labelled": labelled,
}
cases = pytest.mark.parametrize("tx", CASES.values(), ids=list(CASES))


def run(tx: Any, dtype: str, jit: bool) -> checks.Native:
    def native(start: list[np.ndarray], steps: list[list[np.ndarray]]) -> list[np.ndarray]:
        def in_tree(arrays: list[np.ndarray]) -> Any:
            b, w, scale = (jax.numpy.array(a) for a in arrays)
            return {"b": [b, None], "layer/w": w, "scale": scale}

        def step(grads: Any, state: Any, params: Any) -> Any:
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        with jax.enable_x64(dtype == "float64" or jax.config.jax_enable_x64):
            params = in_tree(start)
            state, take = tx.init(params), jax.jit(step) if jit else step
            for grads in steps:
                params, state = take(in_tree(grads), state, params)
            return [np.array(p) for p in checks.leaves(params)]

    return native


@cases
def test_steps_are_native(tx: Callable[[], Any], backend: TestBackend) -> None:
    dtype = "float32"
    checks.equals_native(
        lambda: ao.OptaxOptimizer(tx(), jit=False), run(tx(), dtype, False), backend, dtype
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compiled_steps_are_native(backend: TestBackend, dtype: str) -> None:
    """In float64 too, whether or not JAX has it switched on."""
    checks.equals_native(
        lambda: ao.get(optax.adam(0.1)), run(optax.adam(0.1), dtype, True), backend, dtype
    )


@cases
def test_goes_on_exactly(tx: Callable[[], Any], backend: TestBackend, tmp_path: Path) -> None:
    checks.goes_on_exactly(lambda: ao.OptaxOptimizer(tx(), jit=False), backend, tmp_path)


@cases
def test_updates(tx: Callable[[], Any], backend: TestBackend) -> None:
    checks.updates_are_a_step(lambda: ao.OptaxOptimizer(tx(), jit=False), backend)


def test_random_keys_are_state(tmp_path: Path) -> None:
    tx = optax.add_noise(0.1, 0.5, jax.random.key(0))
    opt, p = ao.OptaxOptimizer(tx), np.zeros(2, "float32")
    opt.apply(np.ones(2, "float32"), p)
    opt.save_weights(tmp_path / "noise.h5")
    again, copied = ao.OptaxOptimizer(tx), p.copy()
    again.load_weights(tmp_path / "noise.h5")
    opt.apply(np.ones(2, "float32"), p)
    again.apply(np.ones(2, "float32"), copied)
    same([copied], [p])


def test_refuses(backend: TestBackend, tmp_path: Path) -> None:
    checks.refuses(lambda: ao.OptaxOptimizer(optax.adam(0.1)), backend, tmp_path)


def test_state_is_named_by_parameter(tmp_path: Path) -> None:
    """A file of another tree or another transformation is refused."""
    opt = ao.OptaxOptimizer(optax.adam(0.1))
    opt.apply({"a": np.ones(2), "b": np.ones(3)}, {"a": np.ones(2), "b": np.ones(3)})
    opt.save_weights(tmp_path / "adam.h5")
    renamed = ao.OptaxOptimizer(optax.adam(0.1))
    renamed.load_weights(tmp_path / "adam.h5")
    with pytest.raises(ValueError, match=r"missing: 0/mu of c .*unexpected: 0/mu of b"):
        renamed.init({"a": np.ones(2), "c": np.ones(3)})
    assert not renamed.built
    other = ao.OptaxOptimizer(optax.sgd(0.1, momentum=0.9))
    other.init({"a": np.ones(2), "b": np.ones(3)})
    before = other.get_weights()
    with pytest.raises(ValueError, match="missing: 0/trace"):
        other.load_weights(tmp_path / "adam.h5")
    same(other.get_weights(), before)
    report = other.load_weights(tmp_path / "adam.h5", strict=False)
    assert "0/mu of a" in report.unexpected and other.iterations == 1


def test_what_update_takes_besides(backend: TestBackend) -> None:
    """`minimize` gives the value; `apply` passes on what it is given."""
    one = ao.OptaxOptimizer(optax.polyak_sgd(max_learning_rate=0.1))
    two = ao.OptaxOptimizer(optax.polyak_sgd(max_learning_rate=0.1))
    params, twins = backend.tree([np.ones(2)]), backend.tree([np.ones(2)])
    for _ in range(3):
        value = float(np.sum(backend.read(params)[0] ** 2))
        pair = (value, backend.tree([2.0 * backend.read(params)[0]]))
        grads = backend.tree([2.0 * backend.read(twins)[0]])
        params = one.minimize(lambda _, pair=pair: pair, params)
        twins = two.apply(grads, twins, value=value)
        same(backend.read(params), backend.read(twins))
    with pytest.raises(TypeError, match="value"):
        two.apply(backend.tree([np.ones(2)]), twins)
    two.apply(backend.tree([np.ones(2)]), twins, value=1.0)  # nothing was spoilt


@pytest.mark.slow
def test_line_search() -> None:
    """On arrays of JAX the loss itself is given too."""
    opt, params = ao.OptaxOptimizer(optax.lbfgs()), jax.numpy.array([-1.2, 1.0])

    def rosenbrock(x: Any) -> Any:
        return 100.0 * (x[1] - x[0] ** 2) ** 2 + (1.0 - x[0]) ** 2

    found = ao.minimize(rosenbrock, params, opt, steps=60)
    np.testing.assert_allclose(found.params, 1.0, atol=1e-3)


def test_bad_input(tmp_path: Path) -> None:
    """What was given is named, and what can be done."""
    with pytest.raises(TypeError, match=r"found 'adam', wanted an optax.GradientTransformation"):
        ao.OptaxOptimizer("adam")
    opt, params = ao.OptaxOptimizer(optax.adam(0.1)), [np.ones(2), np.ones(3)]
    with pytest.raises(ValueError, match=r"parameter '1' is None.*optax.masked"):
        opt.apply([np.ones(2), None], params)
    same(params, [np.ones(2), np.ones(3)])
    opt.apply([np.ones(2), np.ones(3)], params)  # nothing was spoilt
    with pytest.raises(NotImplementedError, match=r"optax.* does not tell .*load_weights"):
        ao.serialize(opt)
    opt.save_weights(tmp_path / "adam.h5")
    with pytest.raises(NotImplementedError, match="without its arguments"):
        ao.load(tmp_path / "adam.h5")
    with pytest.raises(TypeError, match="outside of compiled functions"):
        jax.jit(lambda p: opt.apply(p, p))([jax.numpy.ones(2), jax.numpy.ones(3)])
    twin, copies = copy.deepcopy(opt), copy.deepcopy(params)
    grads = [np.ones(2), np.ones(3)]
    same(twin.apply(grads, copies), opt.apply(grads, params))


def test_a_count_of_its_own(tmp_path: Path) -> None:
    """A transformation may name a number of its state as files name this class's count."""
    import jax.numpy as jnp

    opt = ao.OptaxOptimizer(ao.optax.Adam(0.1))
    w = opt.apply(jnp.ones(2), jnp.ones(2))
    opt.save_weights(tmp_path / "state.h5")
    again = ao.OptaxOptimizer(ao.optax.Adam(0.1))
    again.init(w)
    again.load_weights(tmp_path / "state.h5")
    assert again.apply(jnp.ones(2), w).tolist() == opt.apply(jnp.ones(2), w).tolist()
