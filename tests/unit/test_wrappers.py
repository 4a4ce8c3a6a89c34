"""Optimizers around optimizers: what they compute, keep, refuse and pass on."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.rules.grammar import grammar_errors
from arrayoptim.wrappers import Wrapper
from backends import NUMPY, TestBackend
from optimizers_under_test import cls_of, draw, make, mixed, same

STEPS = 7


def inner(**kwargs: Any) -> Any:
    """Return an optimizer with slots and scalar state."""
    return ao.Nadam(lr=0.05, **kwargs)


WRAPPED: dict[str, Any] = {
    "accumulation": lambda: ao.GradientAccumulation(inner(), every=3),
    "lookahead": lambda: ao.Lookahead(inner(), k=2, alpha=0.25),
    "loss_scale": lambda: ao.LossScale(inner(clipnorm=2.0), scale=8.0, growth_interval=2),
    "grokfast": lambda: ao.Grokfast(inner(), alpha=0.75, lamb=1.5),
    "schedule_free": lambda: ao.ScheduleFree(inner(), momentum=0.75),
    "sam": lambda: ao.SAM(inner(), rho=0.3),
    "nested": lambda: ao.Lookahead(
        ao.LossScale(ao.GradientAccumulation(inner(clipnorm=0.5), every=2), scale=4.0), k=2
    ),
}
wrapped = pytest.mark.parametrize("wrap", WRAPPED.values(), ids=list(WRAPPED))


def step(opt: Any, grads: Any, params: Any, more: Any = None) -> Any:
    """Return the parameters after one call, or two where the wrapper wants two."""
    if isinstance(opt, ao.SAM):
        params = opt.ascend(grads, params)
    return opt.apply(grads if more is None else more, params)


def test_every_wrapper_is_tried() -> None:
    """And each of their rules keeps to the grammar."""
    made = {type(wrap()) for wrap in WRAPPED.values()}
    assert made == set(Wrapper.__subclasses__())
    for cls in made:
        assert grammar_errors(cls.keeper.rule) == []
        assert cls.__name__ not in ao.names()


@pytest.mark.parametrize("clip", [{}, {"clipnorm": 0.5}])
def test_accumulation_is_the_mean(
    name: str, clip: dict[str, float], backend: TestBackend, engine: str
) -> None:
    """To the last bit for four calls, whose sum is divided exactly."""
    start, gradients = draw(1), [draw(2 + t) for t in range(8)]
    with ao.engine(engine):
        opt, plain = ao.GradientAccumulation(make(name, **clip), every=4), make(name, **clip)
        params, twins = backend.tree(start), backend.tree(start)
        for t, grads in enumerate(gradients):
            before = backend.read(params)
            params = opt.apply(backend.tree(grads), params)
            if t % 4 < 3:
                same(backend.read(params), before)
                continue
            last = gradients[t - 3 : t + 1]
            mean = [np.asarray(0.25 * (((a + b) + c) + d)) for a, b, c, d in zip(*last)]
            twins = plain.apply(backend.tree(mean), twins)
            found = backend.read(params)
            for a, b in zip(found, backend.read(twins), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)
    assert (opt.iterations, plain.iterations) == (2, 2)


def test_accumulation_of_none_and_of_nonsense() -> None:
    """None throughout leaves a parameter alone; NaN ends with the step that it spoils."""
    opt = ao.GradientAccumulation(ao.SGD(lr=1.0, momentum=0.9, nonfinite="skip"), every=2)
    params = {"a": np.zeros(2), "b": np.ones(2)}
    for value in (1.0, 3.0, np.nan, 1.0, 2.0, 2.0):
        params = opt.apply({"a": np.full(2, value), "b": None}, params)
    assert (opt.iterations, opt.skipped) == (2, 1)
    same([params["b"]], [np.ones(2)])
    np.testing.assert_allclose(params["a"], -2.0 - (0.9 * 2.0 + 2.0))
    opt.apply({"a": np.ones(2), "b": None}, params)
    before, weights = copy.deepcopy(params), opt.get_weights()
    with pytest.raises(ValueError, match="None in another"):
        opt.apply({"a": np.ones(2), "b": np.ones(2)}, params)
    same(list(params.values()), list(before.values()))
    same(opt.get_weights(), weights)


def test_accumulation_in_half_precision(backend: TestBackend, half: str) -> None:
    """The sum is kept in float32: many small gradients are not lost beside a large one."""
    opt = ao.GradientAccumulation(ao.SGD(lr=1.0), every=9)
    params = [backend.asarray(np.zeros(2), half)]
    for value in [256.0] + [0.125] * 8:
        params = opt.apply([backend.asarray(np.full(2, value), half)], params)
    wanted = NUMPY.asarray(np.full(2, -257.0 / 9), half)
    np.testing.assert_allclose(
        backend.read(params)[0].astype("float64"), wanted.astype("float64"), rtol=1e-2
    )
    np.testing.assert_allclose(opt.get_weights()[2][:2], 257.0)


@pytest.mark.parametrize("clip", [{}, {"clipnorm": 0.5}, {"clipvalue": 0.2}])
def test_a_scale_that_is_a_power_of_two_changes_nothing(
    name: str, clip: dict[str, float], backend: TestBackend, engine: str
) -> None:
    """Clipping sees the true gradients."""
    opt, plain = ao.LossScale(make(name, **clip), scale=1024.0), make(name, **clip)
    params, twins = backend.tree(draw(1)), backend.tree(draw(1))
    with ao.engine(engine):
        for t in range(4):
            grads = draw(2 + t)
            params = opt.apply(backend.tree([np.asarray(1024.0 * g) for g in grads]), params)
            twins = plain.apply(backend.tree(grads), twins)
    for a, b in zip(backend.read(params), backend.read(twins), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)


def test_the_scale_follows_the_gradients(backend: TestBackend) -> None:
    """Halved at an overflow, which steps nothing; doubled after good steps; or left alone."""
    one = backend.asarray(np.ones(2))
    bad = backend.asarray(np.array([1.0, np.inf]))
    for dynamic, wanted in ((True, [8, 16, 8, 8, 16, 16]), (False, [8.0] * 6)):
        opt = ao.LossScale(ao.SGD(lr=1.0), scale=8.0, dynamic=dynamic, growth_interval=2)
        params, seen = one, []
        for g in (one, one, bad, one, one, one):
            params = opt.apply(g, params)
            seen.append(opt.loss_scale)
        assert seen == wanted
        assert (opt.iterations, opt.skipped) == (5, 1)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_ends_of_the_scale(scale: float) -> None:
    """Its reciprocal is a number there, however often it was doubled or halved."""
    for gradient in (0.0, np.inf):
        opt, p = ao.LossScale(ao.SGD(lr=1.0), scale=scale, growth_interval=1), np.ones(2)
        for _ in range(300):
            p = opt.apply(np.full(2, gradient), p)
        assert 0.0 < opt.loss_scale < np.inf
        p = opt.apply(np.full(2, opt.loss_scale), p)
        np.testing.assert_allclose(p, 0.0, atol=1e-12)
    for beyond in (5e-324, 1e31):
        with pytest.raises(ValueError, match=r"LossScale\.scale must be"):
            ao.LossScale("sgd", scale=beyond)


def test_no_number_of_overflows_ends_in_zero() -> None:
    """The scale stays a number to divide by."""
    opt, p = ao.LossScale(ao.SGD()), np.ones(2)
    for _ in range(300):
        opt.apply(np.full(2, np.nan), p)
    assert opt.loss_scale > 0.0 and opt.skipped == 300
    opt.apply(np.full(2, opt.loss_scale), p)
    np.testing.assert_allclose(p, 0.99)


@pytest.mark.needs("torch")
def test_small_gradients_in_float16_arrive() -> None:
    """What float16 would lose without the scale."""
    import torch

    weight = torch.zeros(2, dtype=torch.float16)
    grad = torch.full((2,), 2.0**-30 * 2.0**16, dtype=torch.float16)
    opt = ao.LossScale(ao.SGD(lr=2.0**28), scale=2.0**16)
    opt.apply([grad], [weight])
    assert weight.tolist() == [-0.25, -0.25]


def test_lookahead_as_in_the_paper(name: str, backend: TestBackend, engine: str) -> None:
    """Two loops, with the optimizer itself in the inner one."""
    start, k, alpha = draw(1), 3, 0.25
    with ao.engine(engine):
        opt, plain = ao.Lookahead(make(name), k=k, alpha=alpha), make(name)
        params, slow = backend.tree(start), start
        for outer in range(2):
            fast = backend.tree(slow)
            for t in range(k):
                grads = draw(2 + outer * k + t)
                params = opt.apply(backend.tree(grads), params)
                fast = plain.apply(backend.tree(grads), fast)
                if t < k - 1:
                    same(backend.read(params), backend.read(fast))
            pairs = zip(slow, backend.read(fast), strict=True)
            slow = [np.asarray(s + alpha * (f - s)) for s, f in pairs]
            for a, b in zip(backend.read(params), slow, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)


def test_sam_as_in_the_paper(name: str, backend: TestBackend, engine: str) -> None:
    """The gradient of the point uphill, the step from where the climb began."""
    start, rho = draw(1), 0.3
    with ao.engine(engine):
        opt, plain = ao.SAM(make(name), rho=rho), make(name)
        params, twins = backend.tree(start), backend.tree(start)
        for t in range(3):
            first, second, before = draw(2 + t), draw(50 + t), backend.read(params)
            params = opt.ascend(backend.tree(first), params)
            norm = np.sqrt(sum(np.sum(g * g) for g in first))
            for a, b, g in zip(backend.read(params), before, first, strict=True):
                np.testing.assert_allclose(a, b + rho / norm * g, rtol=1e-13, atol=1e-14)
            params = opt.apply(backend.tree(second), params)
            twins = plain.apply(backend.tree(second), twins)
        same(backend.read(params), backend.read(twins))


def test_sam_in_half_precision_comes_back(backend: TestBackend, half: str) -> None:
    """To the very number; None and NaN do not climb."""
    opt = ao.SAM(ao.SGD(lr=0.0, nonfinite="skip"), rho=0.1)
    params = {k: backend.asarray(np.full(3, 1 / 3), half) for k in "ab"}
    grads = {"a": backend.asarray(np.ones(3), half), "b": None}
    for bad in (False, True):
        first = {"a": grads["a"] * float("nan"), "b": None} if bad else grads
        before = backend.read([params["a"], params["b"]])
        params = opt.ascend(first, params)
        up = backend.read([params["a"], params["b"]])
        assert np.array_equal(up[0], before[0]) == bad
        same(up[1:], before[1:])
        params = opt.apply(grads, params)
        same(backend.read([params["a"], params["b"]]), before)


def test_sam_wants_its_two_calls_in_turn() -> None:
    """An error says which; nothing changes; a bad gradient does not lead back."""
    opt, p = ao.SAM("SGD"), np.ones(2)
    with pytest.raises(ValueError, match="ascend before apply"):
        opt.apply(np.ones(2), p)
    opt.ascend(np.ones(2), p)
    up = p.copy()
    with pytest.raises(ValueError, match="call of apply"):
        opt.ascend(np.ones(2), p)
    with pytest.raises(ValueError, match="shape"):
        opt.apply(np.ones(3), p)
    same([p], [up])
    np.testing.assert_allclose(opt.apply(np.ones(2), p), 0.99)


@wrapped
def test_resume_is_exact(wrap: Any, backend: TestBackend, tmp_path: Path) -> None:
    """In the middle of a wrapper's own cycle too: by list, by file, by `load` and by pickle."""
    if backend.name == "mlx":  # which pickles float64 as float32
        backend = replace(backend, dtypes=tuple(d for d in backend.dtypes if d != "float64"))
    opt, params = wrap(), mixed(backend, 1)
    opt.init(params)
    trail = []
    for t in range(STEPS):
        opt.save_weights(tmp_path / f"{t}.h5")
        scale = opt.loss_scale if isinstance(opt, ao.LossScale) else None
        trail.append((opt.get_weights(), pickle.dumps(opt), backend.read(params), scale))
        params = step(opt, mixed(backend, 10 + t), params)
    trail.append((opt.get_weights(), b"", backend.read(params), None))
    for t in range(STEPS):
        listed, filed = wrap(), wrap()
        for other in (listed, filed):
            other.init([backend.asarray(p) for p in trail[t][2]])
        listed.set_weights(trail[t][0])
        report = filed.load_weights(tmp_path / f"{t}.h5")
        assert not report.faults
        loaded = ao.load(tmp_path / f"{t}.h5")
        assert loaded.get_config() == opt.get_config()
        for other in (listed, filed, loaded, pickle.loads(trail[t][1]), copy.deepcopy(filed)):
            resumed = [backend.asarray(p) for p in trail[t][2]]
            if isinstance(other, ao.LossScale):
                assert other.loss_scale == trail[t][3]
            resumed = step(other, mixed(backend, 10 + t), resumed)
            same(backend.read(resumed), trail[t + 1][2])
            same(other.get_weights(), trail[t + 1][0])


def test_resume_uphill(tmp_path: Path) -> None:
    """Between the two calls of SAM."""
    opt, p = ao.SAM(inner()), np.ones(3)
    opt.ascend(np.ones(3), p)
    opt.save_weights(tmp_path / "up.h5")
    again, q = ao.load(tmp_path / "up.h5"), p.copy()
    same([again.apply(np.ones(3), q)], [opt.apply(np.ones(3), p)])
    assert not np.array_equal(q, np.ones(3))


@wrapped
def test_config(wrap: Any) -> None:
    """It is plain data and makes the same wrapper again, by name in any case."""
    opt = wrap()
    config = json.loads(json.dumps(opt.get_config()))
    name = type(opt).__name__
    scope = {public: getattr(ao, public) for public in ao.__all__}
    for again in (
        type(opt).from_config(config),
        ao.get({"class_name": name.upper(), "config": config}),
        ao.deserialize(json.loads(json.dumps(ao.serialize(opt)))),
        eval(repr(opt), scope),
    ):
        assert type(again) is type(opt) and again.get_config() == config
    assert ao.get(opt) is opt


@wrapped
def test_what_is_inside_is_read_and_set(wrap: Any) -> None:
    """Hyperparameters and numbers pass through; methods that would leave the wrapper out do not."""
    opt = wrap()
    assert (opt.lr, opt.learning_rate, opt.iterations) == (0.05, 0.05, 0)
    opt.learning_rate = 0.25
    opt.beta_1 = 0.5
    opt.iterations = 3
    deep = opt
    while isinstance(deep, Wrapper):
        deep = deep.inner
    assert (deep.lr, deep.beta_1, deep.iterations) == (0.25, 0.5, 3)
    assert opt.m_schedule == 1.0
    with pytest.raises(AttributeError, match="momentun"):
        opt.momentun = 1.0
    for name in ("stateless_apply", "init_state", "get_updates", "no_such_thing", "_private"):
        with pytest.raises(AttributeError, match=name):
            getattr(opt, name)


@wrapped
def test_other_ways_to_step(wrap: Any, backend: TestBackend) -> None:
    """Keras's pairs are trees; `reset` forgets everything."""
    one, two = wrap(), wrap()
    a, b = backend.tree(draw(1)), backend.tree(draw(1))
    for t in range(4):
        grads = backend.tree(draw(2 + t))
        if isinstance(one, ao.SAM):
            a, b = one.ascend(grads, a), two.ascend(grads, b)
        a, b = one.apply(grads, a), two.apply_gradients(list(zip(grads, b, strict=True)))
    same(backend.read(list(a)), backend.read(list(b)))
    assert len(one.weights) == len(one.get_weights())
    one.reset()
    assert (one.built, one.get_weights(), one.iterations) == (False, [], 0)


def test_minimize_and_averages() -> None:
    """The loss of a step, and the average that the optimizer inside keeps."""
    opt = ao.Lookahead(ao.ScheduleFreeSGD(lr=0.1), k=1, alpha=1.0)
    p = opt.minimize(lambda w: (np.sum(w * w) / 2, w.copy()), np.ones(2))
    np.testing.assert_allclose(p, 0.9)
    np.testing.assert_allclose(opt.averages(p), 0.9)


@wrapped
def test_misfits_change_nothing(wrap: Any, tmp_path: Path) -> None:
    """Lists that are cut, files of others, and files of other parameters."""
    opt, params = wrap(), draw(1)
    params = step(opt, draw(2), params)
    params = step(opt, draw(3), params)
    weights, config = opt.get_weights(), opt.get_config()
    with pytest.raises(ValueError, match="weights"):
        opt.set_weights(weights[:-1])
    spoiled = [*weights[:-1], np.ones(99)]
    with pytest.raises(ValueError, match="shape"):
        opt.set_weights(spoiled)
    with pytest.raises(ValueError, match="init"):
        wrap().set_weights(weights)
    other = inner()
    other.init(params)
    other.save_weights(tmp_path / "plain.h5")
    with pytest.raises(ValueError, match=f"wanted {type(opt).__name__}"):
        opt.load_weights(tmp_path / "plain.h5")
    big = wrap()
    big.init([np.ones((2, 3)), np.ones(()), np.ones(5)])
    big.save_weights(tmp_path / "big.h5")
    with pytest.raises(ValueError, match="misshapen"):
        opt.load_weights(tmp_path / "big.h5")
    same(opt.get_weights(), weights)
    assert opt.get_config() == config
    with pytest.raises(ValueError, match="no state"):
        wrap().save_weights(tmp_path / "none.h5")


@pytest.mark.parametrize("bad", [None, 3, "adamm", {"class_name": "Adam"}, ao.Adam])
def test_what_is_no_optimizer(bad: Any) -> None:
    """The message says what was wanted."""
    with pytest.raises((TypeError, ValueError), match=r"an optimizer|unknown optimizer"):
        ao.Lookahead(bad)


def test_names_are_enough() -> None:
    """Of the optimizer inside."""
    assert type(ao.Lookahead("adam").inner) is cls_of("Adam")
