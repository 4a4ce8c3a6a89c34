"""What must hold for every optimizer whatever its formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import arrayoptim as ao
from arrayoptim.step.session import session_of
from backends import TestBackend
from optimizers_under_test import (
    CASES,
    draw,
    make,
    mixed,
    numeric,
    rules_of,
    same,
)

seeds = st.integers(0, 10_000)
STEPS = 4


def run(
    name: str, kwargs: dict[str, Any], params: list[np.ndarray], grads: list[list[np.ndarray]]
) -> tuple[list[np.ndarray], Any]:
    """Train copies of NumPy arrays; return them and the optimizer."""
    opt, params = make(name, **kwargs), [np.array(p) for p in params]
    for step in grads:
        params = opt.apply([np.array(g) for g in step], params)
    return params, opt


def slots_of(opt: Any, params: Any) -> list[list[np.ndarray]]:
    """Return the slot arrays of each parameter, slot by slot."""
    count = 1 + len(opt.initial_scalars())
    found: list[list[np.ndarray]] = [[] for _ in params]
    pairs = [(leaf, name) for name, leaf, _ in session_of(opt).state.entries()]
    for (leaf, _), array in zip(pairs, opt.get_weights()[count:], strict=True):
        found[int(leaf.path)].append(array)
    return found


def test_shape_dtype_and_structure_stay(
    name: str, kwargs: dict[str, Any], backend: TestBackend
) -> None:
    """A nested tree comes back as it was, arrays of libraries that can be written as they were."""

    def nested(seed: int) -> tuple[list[Any], dict[str, Any]]:
        arrays = mixed(backend, seed)
        a, b, *rest = arrays
        return arrays, {"w": [a, (b,)], "x": {"none": None, "rest": rest}}

    (old, tree), (_, grads) = nested(1), nested(2)
    new = make(name, **kwargs).apply(grads, tree)
    assert type(new["w"][1]) is tuple and list(new) == list(tree)
    assert new["x"]["none"] is None
    found = [new["w"][0], new["w"][1][0], *new["x"]["rest"]]
    for before, after in zip(old, found, strict=True):
        assert type(after) is type(before)
        assert after.dtype == before.dtype and tuple(after.shape) == tuple(before.shape)
        assert (after is before) == backend.in_place


def test_zero_gradients_from_the_start_change_nothing(
    name: str, kwargs: dict[str, Any], backend: TestBackend
) -> None:
    """Without weight decay it leaves a parameter, unless the class says that it does not."""
    start = draw(3)
    params = backend.tree(start)
    decays = [key for key in numeric(name) if key.endswith("weight_decay")]
    opt = make(name, **kwargs, **dict.fromkeys(decays, 0.0))
    for _ in range(STEPS):
        params = opt.apply(backend.tree([np.zeros_like(p) for p in start]), params)
    found = backend.read(params)
    if opt.rests:
        same(found, start)
    else:
        assert not any(np.any(a == b) for a, b in zip(found, start, strict=True))
    assert opt.iterations == STEPS


@given(seed=seeds, order=st.permutations(range(3)), clip=st.sampled_from([{}, {"clipvalue": 0.5}]))
def test_order_of_tensors_does_not_matter(
    name: str, kwargs: dict[str, Any], seed: int, order: list[int], clip: dict[str, Any]
) -> None:
    """Permuting the tensors permutes parameters and slots."""
    params, grads = draw(seed), [draw(seed + 1 + t) for t in range(STEPS)]
    straight, first = run(name, kwargs | clip, params, grads)
    shuffled = [[step[i] for i in order] for step in grads]
    mixed, second = run(name, kwargs | clip, [params[i] for i in order], shuffled)
    same(mixed, [straight[i] for i in order])
    slots = slots_of(first, params)
    for i, found in zip(order, slots_of(second, [params[i] for i in order]), strict=True):
        same(found, slots[i])


@pytest.mark.parametrize(
    ("name", "kwargs"), [case for case in CASES if all(r.ratio is None for r in rules_of([case]))]
)
@given(seed=seeds, cut=st.integers(0, 12))
def test_splitting_a_tensor_changes_nothing(
    name: str, kwargs: dict[str, Any], seed: int, cut: int
) -> None:
    """One tensor of 12 numbers trains as two tensors do, down to the last bit."""
    whole = draw(seed, [(12,)])
    grads = [draw(seed + 1 + t, [(12,)]) for t in range(STEPS)]
    one, _ = run(name, kwargs, whole, grads)
    halves = [[g[0][:cut], g[0][cut:]] for g in grads]
    two, _ = run(name, kwargs, [whole[0][:cut], whole[0][cut:]], halves)
    same([np.concatenate(two)], one)


def effective(grads: list[np.ndarray], **clip: Any) -> list[np.ndarray]:
    """Return the gradients as plain SGD with a step of one uses them."""
    params, _ = run("SGD", {"lr": 1.0} | clip, [np.zeros_like(g) for g in grads], [grads])
    return [-p for p in params]


scales = st.sampled_from([1e-3, 1.0, 1e3])


@given(seed=seeds, scale=scales, bound=st.floats(0.01, 100))
def test_clipnorm_bounds_the_global_norm(seed: int, scale: float, bound: float) -> None:
    """A longer gradient is cut to the bound in its own direction, a shorter one stays."""
    grads = draw(seed, scale=scale)
    found = np.concatenate([g.ravel() for g in effective(grads, clipnorm=bound)])
    flat = np.concatenate([g.ravel() for g in grads])
    norm = np.linalg.norm(flat)
    wanted = flat * (bound / norm) if norm >= bound else flat
    np.testing.assert_allclose(found, wanted, rtol=1e-13)
    assert np.linalg.norm(found) <= max(bound, 0) * (1 + 1e-14) or norm < bound


@given(seed=seeds, scale=scales, bound=st.floats(0.01, 100))
def test_clipvalue_bounds_every_entry(seed: int, scale: float, bound: float) -> None:
    """Every entry is limited on its own, exactly."""
    grads = draw(seed, scale=scale)
    same(effective(grads, clipvalue=bound), [np.clip(g, -bound, bound) for g in grads])


@given(seed=seeds, scale=scales, norm=st.floats(0.1, 10), value=st.floats(0.01, 1))
def test_the_norm_is_clipped_first(seed: int, scale: float, norm: float, value: float) -> None:
    """Both limits together are the one of the norm, then the one of the entries."""
    grads = draw(seed, scale=scale)
    staged = effective(effective(grads, clipnorm=norm), clipvalue=value)
    for a, b in zip(effective(grads, clipnorm=norm, clipvalue=value), staged, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15)


def test_constant_gradients_stay_finite(
    name: str, kwargs: dict[str, Any], backend: TestBackend
) -> None:
    """Rounding makes no root of a negative number and no quotient of two zeros."""
    values = np.append(draw(30, [(64,)])[0], [1e-30, 1e15, 0.0]).astype("float32")
    opt, params = make(name, **kwargs), [backend.asarray(np.ones(67), "float32")]
    for _ in range(300):
        params = opt.apply([backend.asarray(values)], params)
    assert np.all(np.isfinite(backend.read(params)[0]))


def test_no_gradient_leaves_parameter_and_slots(
    name: str, kwargs: dict[str, Any], backend: TestBackend
) -> None:
    """`None` is no zero: momentum does not move the parameter, averages do not shrink."""
    start = draw(5)
    params, opt = backend.tree(start), make(name, **kwargs)
    params = opt.apply(backend.tree(draw(6)), params)
    before, slots = backend.read(params), slots_of(opt, params)
    grads: list[Any] = backend.tree(draw(7))
    grads[0] = grads[2] = None
    after = backend.read(opt.apply(grads, params))
    new_slots = slots_of(opt, params)
    for i in (0, 2):
        same([after[i], *new_slots[i]], [before[i], *slots[i]])
    assert not np.array_equal(after[1], before[1])
    assert opt.iterations == 2


def test_functional_form_is_the_stateful_form(
    name: str, kwargs: dict[str, Any], backend: TestBackend
) -> None:
    """Both give the same numbers; the functional one writes into nothing it was given."""
    opt, pure = make(name, **kwargs), make(name, **kwargs)
    params, frozen = mixed(backend, 8), mixed(backend, 8)
    state = pure.init_state(frozen)
    for step in range(STEPS):
        grads = mixed(backend, 9 + step)
        before = backend.read(frozen)
        new, state = pure.stateless_apply(state, grads, frozen)
        same(backend.read(frozen), before)
        params, frozen = opt.apply(grads, params), new
        for a, b in zip(backend.read(params), backend.read(frozen), strict=True):
            assert a.dtype == b.dtype
            eps = 4e-15 if a.dtype in (np.float64, np.complex128) else 2e-5
            np.testing.assert_allclose(a.astype(complex), b.astype(complex), rtol=eps, atol=eps)
    assert int(state["iterations"]) == opt.iterations == STEPS


def test_gradients_may_be_written_to_after_a_step(
    name: str, kwargs: dict[str, Any], viewing: TestBackend
) -> None:
    """No slot is the caller's own gradient: one buffer for all steps is as good as new ones."""
    for dtype in ("float32", "complex64"):
        for engine in viewing.engines:
            kept, reused, buffer = viewing.tree([np.ones(5)] * 3, dtype)
            one, two = make(name, **kwargs), make(name, **kwargs)
            with ao.engine(engine):
                for step in range(STEPS):
                    grad = viewing.asarray(draw(40 + step, [(5,)])[0], dtype)
                    buffer[...] = grad
                    one.apply(grad, kept)
                    two.apply(buffer, reused)
                    buffer[...] = 7.0
            same(viewing.read([reused]), viewing.read([kept]))


def test_apply_gradients_is_apply(name: str, kwargs: dict[str, Any], backend: TestBackend) -> None:
    """Pairs, as Keras passes them, give what trees give."""
    one, two = make(name, **kwargs), make(name, **kwargs)
    a, b = backend.tree(draw(10)), backend.tree(draw(10))
    for step in range(STEPS):
        grads = backend.tree(draw(11 + step))
        a = one.apply(grads, a)
        b = two.apply_gradients(zip(grads, b, strict=True))
        same(backend.read(list(b)), backend.read(a))
    same(two.get_weights(), one.get_weights())


def test_resume_is_exact(
    name: str, kwargs: dict[str, Any], backend: TestBackend, tmp_path: Path
) -> None:
    """Stop after any step, by list or by file: the next one is the same to the last bit."""
    hyper = kwargs | ({"decay": 0.1} if hasattr(ao.get(name), "decay") else {})
    params, opt = mixed(backend, 20), make(name, **hyper)
    opt.init(params)
    trail = []
    for step in range(STEPS):
        path = tmp_path / f"{step}.h5"
        opt.save_weights(path)
        trail.append((path, opt.get_weights(), backend.read(params)))
        params = opt.apply(mixed(backend, 30 + step), params)
    trail.append((tmp_path, opt.get_weights(), backend.read(params)))
    for step, (path, weights, values) in enumerate(trail[:-1]):
        for by_file in (False, True):
            again, resumed = make(name, **hyper), [backend.asarray(value) for value in values]
            again.init(resumed)
            again.load_weights(path) if by_file else again.set_weights(weights)
            assert again.iterations == step
            resumed = again.apply(mixed(backend, 30 + step), resumed)
            same(backend.read(resumed), trail[step + 1][2])
            same(again.get_weights(), trail[step + 1][1])
