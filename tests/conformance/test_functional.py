"""The pure form: nothing is written into, and JAX compiles it once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.config.groups import STARTING
from backends import NUMPY, TestBackend
from optimizers_under_test import NAMES, USUAL, cls_of, draw, make, numeric, same

STEPS = 4


def small(seed: int) -> list[np.ndarray]:
    """Return two arrays: what is compiled here is compiled often."""
    return draw(seed, [(2, 3), ()])


def copied(tree: Any, backend: TestBackend) -> Any:
    """Return a NumPy copy of nested dicts and lists."""
    if isinstance(tree, dict):
        return {key: copied(value, backend) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [copied(value, backend) for value in tree]
    if tree is None or isinstance(tree, int | float | bool | str | np.generic):
        return tree
    return np.array(tree if isinstance(tree, np.ndarray) else backend.to_numpy(tree))


def equal(a: Any, b: Any) -> None:
    """Assert that two copies are the same."""
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            equal(a[key], b[key])
    elif isinstance(a, list):
        for x, y in zip(a, b, strict=True):
            equal(x, y)
    else:
        np.testing.assert_array_equal(a, b)


def test_nothing_is_written_into(name: str, kwargs: dict[str, Any], backend: TestBackend) -> None:
    """State, gradients and parameters stay; the same call gives the same again."""
    opt = make(name, **kwargs, clipnorm=1.0)
    params = backend.tree(small(1))
    state = opt.init_state(params)
    assert list(state) == ["iterations", "skipped", "hyper", "scalars", "slots"]
    params, state = opt.stateless_apply(state, backend.tree(small(2)), params)
    grads = backend.tree(small(3))
    before = copied([state, grads, params], backend)
    first = opt.stateless_apply(state, grads, params)
    equal(copied([state, grads, params], backend), before)
    second = opt.stateless_apply(state, grads, params)
    equal(copied(list(first), backend), copied(list(second), backend))
    assert not opt.built
    assert opt.iterations == 0


def test_hyperparameters_live_in_the_state(
    name: str, kwargs: dict[str, Any], backend: TestBackend
) -> None:
    """What the state says holds, not what the optimizer that runs it was made with."""
    opt, other = make(name, **kwargs), make(name, **kwargs)
    opt.lr = 0.5
    params = backend.tree(small(1))
    state = opt.init_state(params)
    assert float(state["hyper"]["lr"]) == 0.5
    wanted = {key for key in numeric(name) if getattr(opt, key) is not None} - STARTING
    assert set(state["hyper"]) == wanted
    grads = backend.tree(small(2))
    one, two = (o.stateless_apply(state, grads, params)[0] for o in (opt, other))
    same(backend.read(one), backend.read(two))


@pytest.mark.parametrize(
    ("key", "hint"), [("lrr", "'lrr', did you mean 'lr'"), ("1.beta_3", "'1.beta_3', did you mean")]
)
def test_unknown_numbers_of_the_state(backend: TestBackend, key: str, hint: str) -> None:
    """A misspelt one would do nothing."""
    opt = make("Adam", groups=[ao.group("0", beta_1=0.8)])
    params = backend.tree(small(1))
    state = opt.init_state(params)
    state["hyper"][key] = 0.1
    with pytest.raises(ValueError, match=rf'state\["hyper"\]: Adam has no numeric .* {hint}'):
        opt.stateless_apply(state, backend.tree(small(2)), params)


def inside(name: str, key: str) -> list[float]:
    """Return two numbers that a hyperparameter may be."""
    hyper = cls_of(name).hyperparameters[key]
    tried = [3.0, 5.0] if hyper.integer else [0.25, 0.5, 1.5, 2.5]
    return [value for value in tried if value in hyper.interval][:2]


@pytest.mark.needs("jax")
def test_one_compile(name: str, kwargs: dict[str, Any], backend: TestBackend) -> None:
    """Whatever the step number and the hyperparameters: compiled once, and each value counts."""
    import jax

    hyper = {"clipnorm": 2.0, "clipvalue": 1.0} | kwargs
    opt, traces = make(name, **hyper), []

    @jax.jit
    def step(state: Any, grads: Any, params: Any) -> Any:
        traces.append(None)
        return opt.stateless_apply(state, grads, params)

    params = backend.tree(small(1))
    state = jax.tree.map(jax.numpy.asarray, opt.init_state(params))
    changed = {key: values for key in numeric(name) if (values := inside(name, key))}
    for key, values in changed.items():
        if key not in state["hyper"]:
            continue
        for value in values:
            old = state["hyper"][key]
            new = jax.numpy.asarray(value, dtype=old.dtype)
            twin = make(name, **(hyper | {key: value}))
            fresh = twin.init_state(NUMPY.tree(small(1)))
            if fresh["slots"].keys() != state["slots"].keys():
                # A momentum where there was none: a rule with another state.
                continue
            given = state | {"hyper": state["hyper"] | {key: new}}
            found, after = step(given, backend.tree(small(2)), params)
            wanted, _ = twin.stateless_apply(fresh, NUMPY.tree(small(2)), NUMPY.tree(small(1)))
            for a, b in zip(backend.read(found), wanted, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
            step(after, backend.tree(small(3)), found)
    assert len(traces) == 1


@pytest.mark.needs("jax")
def test_scan(name: str, kwargs: dict[str, Any], backend: TestBackend) -> None:
    """State and parameters keep their types, so that a scan carries them; it is the loop."""
    import jax

    opt, loop = make(name, **kwargs, clipnorm=1.0), make(name, **kwargs, clipnorm=1.0)
    tables = [small(10 + t) for t in range(STEPS)]
    stacked = [backend.asarray(np.stack(column)) for column in zip(*tables, strict=True)]
    start = backend.tree(small(1))

    def body(carry: Any, grads: Any) -> Any:
        params, state = opt.stateless_apply(carry[1], grads, carry[0])
        return (params, state), None

    carry = jax.tree.map(jax.numpy.asarray, (start, opt.init_state(start)))
    (found, state), _ = jax.lax.scan(body, carry, stacked)
    params = NUMPY.tree(small(1))
    for grads in tables:
        params = loop.apply(grads, params)
    for a, b in zip(backend.read(found), params, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    assert int(state["iterations"]) == STEPS


@pytest.mark.needs("jax")
def test_vmap_over_learning_rates(name: str, backend: TestBackend) -> None:
    """Several trainings at once, each with its own rate."""
    import jax

    opt, rates = make(name), np.array([0.001, 0.01, 0.1])
    tables = [small(10 + t) for t in range(STEPS)]

    def training(lr: Any) -> Any:
        params = backend.tree(small(1))
        state = opt.init_state(params)
        state = state | {"hyper": state["hyper"] | {"lr": lr}}
        for grads in tables:
            params, state = opt.stateless_apply(state, backend.tree(grads), params)
        return params

    found = backend.read(jax.vmap(training)(backend.asarray(rates)))
    for i, rate in enumerate(rates):
        params, alone = NUMPY.tree(small(1)), make(name, lr=rate)
        for grads in tables:
            params = alone.apply(grads, params)
        for a, b in zip(found, params, strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-11, atol=1e-13)


@pytest.mark.needs("jax")
def test_skip_under_jit(name: str, backend: TestBackend) -> None:
    """A compiled step leaves a poisoned one out, and counts it."""
    import jax

    opt = make(name, nonfinite="skip")
    step = jax.jit(opt.stateless_apply)
    params = backend.tree(small(1))
    state = jax.tree.map(jax.numpy.asarray, opt.init_state(params))
    params, state = step(state, backend.tree(small(2)), params)
    bad = small(3)
    bad[0][1, 1] = np.nan
    after, new = step(state, backend.tree(bad), params)
    same(backend.read(after), backend.read(params))
    before, left = copied(state, backend), copied(new, backend)
    assert (int(left.pop("skipped")), int(before.pop("skipped"))) == (1, 0)
    equal(left, before)


@pytest.mark.needs("jax")
def test_raise_without_jit(backend: TestBackend) -> None:
    """A step that nothing compiles can raise; a compiled one says so when it is traced."""
    import jax

    opt, params = make("Adam", nonfinite="raise"), backend.tree(small(1))
    state = opt.init_state(params)
    found, state = opt.stateless_apply(state, backend.tree(small(2)), params)
    assert int(state["iterations"]) == 1
    bad = small(3)
    bad[0][1, 1] = np.inf
    with pytest.raises(ValueError, match="NaN or infinite entry at step 1"):
        opt.stateless_apply(state, backend.tree(bad), found)
    with pytest.raises(ValueError, match="differentiated step"):
        jax.jit(opt.stateless_apply)(state, backend.tree(small(2)), found)


WITHOUT_X64 = """
import sys, warnings
warnings.simplefilter("error")
import jax, numpy as np, arrayoptim as ao
for name in sys.argv[1:]:
    results = []
    for asarray in (jax.numpy.asarray, np.array):
        opt = type(ao.get(name))(clipnorm=1.0)
        params = [asarray(np.linspace(-1, 1, 6, dtype="float32").reshape(2, 3))]
        state = opt.init_state(params)
        step = jax.jit(opt.stateless_apply) if asarray is not np.array else opt.stateless_apply
        stateful = [p + 0 for p in params]
        for t in range(10):
            grads = [asarray(np.cos(np.arange(6, dtype="float32") + t).reshape(2, 3))]
            params, state = step(state, grads, params)
            stateful = opt.apply(grads, stateful)
        results += [np.asarray(params[0]), np.asarray(stateful[0])]
        assert params[0].dtype == "float32"
    rtol = 1e-2 if name == "SOAP" else 1e-5  # eigenvectors of near values
    for other in results[1:]:
        np.testing.assert_allclose(results[0], other, rtol=rtol, atol=rtol / 10, err_msg=name)
print("fine")
"""


OTHERS = [name for name in NAMES if name not in USUAL]


@pytest.mark.needs("jax")
@pytest.mark.parametrize(
    "names",
    [pytest.param(USUAL, id="usual"), pytest.param(OTHERS, marks=pytest.mark.every, id="others")],
)
def test_jax_without_double_precision(names: Sequence[str]) -> None:
    """As JAX is by default, in a process of its own: close to NumPy's float32, no warnings."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_X64, *names],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.stdout == "fine\n", done.stderr
