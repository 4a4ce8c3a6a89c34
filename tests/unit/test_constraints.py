"""Constraints after the step, against what Keras 2 computes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim import constraints as c
from arrayoptim.step.session import session_of
from backends import NUMPY, TestBackend
from optimizers_under_test import USUAL, draw, make, same

SHAPES = [(4, 3), (5,), (2, 2, 3, 2)]


def norms(w: Any, axis: Any) -> Any:
    """Return Keras 2's norms."""
    return np.sqrt(np.sum(np.square(w), axis=axis, keepdims=True))


def max_norm(w: Any, most: float, axis: Any) -> Any:
    """Return ``w *= clip(norms, 0, max_value) / (epsilon + norms)``."""
    return w * (np.clip(norms(w, axis), 0, most) / (1e-7 + norms(w, axis)))


def min_max_norm(w: Any, low: float, high: float, rate: float, axis: Any) -> Any:
    """Return ``w *= (rate * clip(norms) + (1 - rate) * norms) / (epsilon + norms)``."""
    wanted = rate * np.clip(norms(w, axis), low, high) + (1 - rate) * norms(w, axis)
    return w * (wanted / (1e-7 + norms(w, axis)))


CASES: list[tuple[Any, Any]] = [
    (c.NonNeg(), lambda w: w * (w >= 0)),
    (c.Box(-0.5, 0.25), lambda w: np.clip(w, -0.5, 0.25)),
    (c.Box(high=0.1), lambda w: np.minimum(w, 0.1)),
    (c.UnitNorm(), lambda w: w / (1e-7 + norms(w, 0))),
    (c.UnitNorm(axis=-1), lambda w: w / (1e-7 + norms(w, -1))),
    (c.MaxNorm(0.8), lambda w: max_norm(w, 0.8, 0)),
    (c.MaxNorm(0.0), lambda w: max_norm(w, 0.0, 0)),
    (c.MinMaxNorm(0.5, 0.75), lambda w: min_max_norm(w, 0.5, 0.75, 1.0, 0)),
    (c.MinMaxNorm(0.5, 0.75, rate=0.25), lambda w: min_max_norm(w, 0.5, 0.75, 0.25, 0)),
]


@pytest.mark.parametrize(("constraint", "wanted"), CASES, ids=[repr(case[0]) for case in CASES])
def test_what_keras_2_computes(
    backend: TestBackend, engine: str, constraint: Any, wanted: Any
) -> None:
    """After every step, whatever the rule has made of the parameter."""
    params, plain = backend.tree(draw(0, SHAPES)), draw(0, SHAPES)
    one, two = ao.SGD(lr=0.5, momentum=0.5, constraint=constraint), ao.SGD(lr=0.5, momentum=0.5)
    for step in range(3):
        with ao.engine(engine):
            params = one.apply(backend.tree(draw(1 + step, SHAPES)), params)
        two.apply(draw(1 + step, SHAPES), plain)
        plain = [wanted(p) for p in plain]
    for a, b in zip(backend.read(params), plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_several_axes(backend: TestBackend) -> None:
    """As for the kernel of a convolution."""
    for axes in ([0, 1, 2], (0, -1)):
        p = draw(0, SHAPES)[2]
        found = ao.SGD(lr=0.0, constraint=c.MaxNorm(0.3, axes)).apply(
            backend.asarray(0 * p), backend.asarray(p)
        )
        wanted = max_norm(p, 0.3, tuple(axes))
        np.testing.assert_allclose(backend.to_numpy(found), wanted, rtol=1e-12)


@pytest.mark.parametrize("name", USUAL)
@pytest.mark.parametrize("constraint", [c.Box(-0.25, 0.5), c.MaxNorm(1.0)], ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_average_and_master_follow(name: str, constraint: Any, dtype: str) -> None:
    """They are those of the constrained parameter, with the bits of every engine."""
    found = []
    for engine in ("array", "auto"):
        options = {"ema_momentum": 0.0, "constraint": constraint, "lr": 0.5}
        optimizer, params = make(name, **options), NUMPY.tree(draw(0, SHAPES), dtype)
        with ao.engine(engine):
            for step in range(3):
                optimizer.apply(NUMPY.tree(draw(1 + step, SHAPES), dtype), params)
        found.append([*params, *optimizer.get_weights()])
        slots_of = session_of(optimizer).state.slots
        kept = [s["average"] for s in slots_of]
        for p, slots, average in zip(params, slots_of, kept, strict=True):
            same([average.astype(p.dtype)], [p])
            if dtype == "bfloat16":
                same([slots["master"]], [average])
            assert constraint.limits is None or np.all((p >= -0.25) & (p <= 0.5))
            tops = norms(p.astype(np.float64), 0)
            assert constraint.limits or np.all(tops <= 1.0 + 1e-2 * (dtype == "bfloat16") + 1e-6)
    same(*found)


def test_parameters_by_their_paths(backend: TestBackend) -> None:
    """A group has one of its own, or none; the others that of the whole."""
    params = {name: backend.asarray(np.full((2, 2), -1.0)) for name in ("kernel", "bias", "rest")}
    grads = {name: backend.asarray(np.zeros((2, 2))) for name in params}
    groups = [
        ao.group("*/kernel", constraint=c.UnitNorm()),
        ao.group("bias", constraint=None, lr=0.5),
    ]
    optimizer = ao.SGD(lr=0.1, constraint="nonneg", groups=groups)
    new = optimizer.apply(grads, params)
    found = {name: float(backend.to_numpy(x)[0, 0]) for name, x in new.items()}
    assert found == pytest.approx({"kernel": -(0.5**0.5), "bias": -1.0, "rest": 0.0}, rel=1e-6)


def test_an_optimizer_of_a_group_brings_its_own() -> None:
    """As its weight decay: none, where it has none."""
    groups = [
        ao.group("0", optimizer=ao.Adam(constraint="nonneg")),
        ao.group("1", optimizer=ao.Adam()),
    ]
    params = [np.full(2, -1.0) for _ in range(3)]
    ao.SGD(constraint=c.Box(low=-0.5), groups=groups).apply([np.zeros(2)] * 3, params)
    assert [p.tolist() for p in params] == [[0.0, 0.0], [-1.0, -1.0], [-0.5, -0.5]]


def test_missing_and_frozen_gradients() -> None:
    """Their parameters are left alone, as they are."""
    for constraint in (c.NonNeg(), c.UnitNorm()):
        params = [np.full(2, -1.0) for _ in range(2)]
        optimizer = ao.SGD(constraint=constraint, groups=[ao.group("0", freeze=True)])
        optimizer.apply([np.ones(2), None], params)
        assert all(p.tolist() == [-1.0, -1.0] for p in params)


@pytest.mark.parametrize("constraint", [c.NonNeg(), c.MaxNorm(0.5)], ids=repr)
def test_other_ways_to_step(backend: TestBackend, constraint: Any) -> None:
    """The pure form and the list of updates agree with `apply`."""
    optimizer = ao.SGD(lr=0.5, constraint=constraint)
    params, grads = backend.tree(draw(0, SHAPES)), backend.tree(draw(1, SHAPES))
    pure, _ = optimizer.stateless_apply(optimizer.init_state(params), grads, params)
    optimizer.init(params)
    updates = optimizer.get_updates(params, lambda _: (0.0, grads))
    planned = [value for target, value in updates if not hasattr(target, "optimizer")]
    applied = backend.read(optimizer.apply(grads, backend.tree(draw(0, SHAPES))))
    for other in (pure, planned):
        for a, b in zip(applied, backend.read(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14)


@pytest.mark.needs("jax")
@pytest.mark.parametrize("constraint", [c.Box(-0.1, 0.2), c.UnitNorm()], ids=repr)
def test_compiled(constraint: Any) -> None:
    """Under `jax.jit`."""
    import jax

    params, grads = ([jax.numpy.asarray(a) for a in draw(k, SHAPES)] for k in (0, 1))
    optimizer = ao.Adam(lr=0.5, constraint=constraint)
    new, _ = jax.jit(optimizer.stateless_apply)(optimizer.init_state(params), grads, params)
    wanted = draw(0, SHAPES)
    ao.Adam(lr=0.5, constraint=constraint).apply(draw(1, SHAPES), wanted)
    for a, b in zip(new, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-12)


def test_explain_says_what_it_costs() -> None:
    """Bounds are a part of the fused loop, norms are passes, but for those over the middle."""
    p = np.ones((3, 4, 2))
    assert ao.explain([p], ao.SGD(constraint="nonneg")).groups[0].engine == "cpu"
    assert ao.explain([p], ao.SGD(constraint=c.MaxNorm(axis=-1))).groups[0].engine == "cpu"
    (group,) = ao.explain([p], ao.SGD(constraint=c.MaxNorm(axis=1))).groups
    assert group.engine == "array" and "norms of the new parameter" in group.reason
    with ao.engine("cpu"), pytest.raises(ValueError, match=r"cannot serve the parameter.*norms"):
        ao.SGD(constraint=c.UnitNorm([0, 2])).apply(p, p.copy())


def test_names_and_configurations(tmp_path: Path) -> None:
    """By Keras 2's names and dicts, in configurations, copies and files."""
    for name in ("NonNeg", "nonneg", "non_neg", "unit_norm", "max_norm", "MinMaxNorm", "box"):
        made = c.get(name)
        config = {"class_name": type(made).__name__, "config": made.get_config()}
        assert c.get(config) == made and c.get(made) is made and hash(c.get(config)) == hash(made)
    assert c.get(None) is None and c.nonneg is c.NonNeg and c.max_norm is c.MaxNorm
    assert c.MaxNorm(1.0) != c.MaxNorm(1.5) and c.MaxNorm(2.0) != c.UnitNorm()
    assert c.names() == ["Box", "MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"]
    keras_2 = {"class_name": "MaxNorm", "config": {"max_value": 3, "axis": [0, 1]}}
    optimizer = ao.SGD(constraint=keras_2, groups=[ao.group("0", constraint=c.Box(0, 1))])
    assert optimizer.constraint == c.MaxNorm(3.0, (0, 1))
    for other in (ao.SGD.from_config(optimizer.get_config()), copy.deepcopy(optimizer)):
        assert other.get_config() == optimizer.get_config() and repr(other) == repr(optimizer)
    optimizer.apply(draw(0)[:1], draw(1)[:1])
    optimizer.save_weights(tmp_path / "w.h5")
    assert ao.load(tmp_path / "w.h5").get_config() == optimizer.get_config()


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: ao.SGD(constraint="maxnrm"), ValueError, "SGD.constraint.*did you mean 'MaxNorm'"),
    (lambda: ao.SGD(constraint=1.0), TypeError, "found 1.0, wanted a constraint"),
    (lambda: ao.SGD(constraint={"class_name": "MaxNorm"}), TypeError, "of a constraint"),
    (lambda: c.MaxNorm(-1.0), ValueError, r"MaxNorm.max_value must be a number in \[0, inf\]"),
    (lambda: c.UnitNorm(axis=0.5), ValueError, "UnitNorm.axis must be an integer"),
    (lambda: c.UnitNorm(axis=[]), ValueError, "UnitNorm.axis must be an integer"),
    (lambda: c.Box(1.0, 0.0), ValueError, "wanted low <= high"),
    (lambda: setattr(c.Box(0, 1), "low", 0.5), AttributeError, "cannot be changed"),
    (lambda: c.register(dict), TypeError, "wanted a subclass of Constraint"),
    (lambda: ao.SGD(groups=[ao.group("a", constraint=2)]), TypeError, "wanted a constraint"),
]


@pytest.mark.parametrize(("make_it", "error", "message"), BAD)
def test_bad_arguments(make_it: Any, error: type[Exception], message: str) -> None:
    """Each says what was found and what was wanted."""
    with pytest.raises(error, match=message):
        make_it()


@pytest.mark.parametrize(
    ("p", "message"),
    [(np.ones(3), "has 1 axes.*wants axis 1"), (np.ones(3, np.complex64), "is complex")],
)
def test_parameters_that_cannot_be_constrained(p: np.ndarray, message: str) -> None:
    """Nothing has changed, and there is no state."""
    optimizer, before = ao.SGD(constraint=c.UnitNorm(axis=1)), p.copy()
    with pytest.raises(ValueError, match=message):
        optimizer.apply(p.copy(), p)
    same([p], [before])
    assert not optimizer.built


def test_one_that_is_set_later() -> None:
    """It holds from the next step on, and is checked like one that was there from the start."""
    optimizer, p = ao.SGD(lr=1.0), np.ones(2)
    optimizer.apply(np.full(2, 3.0), p)
    for constraint, wanted in ((c.NonNeg(), 0.0), (None, -1.0), (c.UnitNorm(), -(0.5**0.5))):
        p[...] = 0.0
        optimizer.constraint = constraint
        optimizer.apply(np.ones(2), p)
        np.testing.assert_allclose(p, wanted, rtol=1e-6)
    optimizer, p = ao.SGD(), np.ones(2, np.complex64)
    optimizer.apply(p.copy(), p)
    optimizer.constraint = c.NonNeg()
    with pytest.raises(ValueError, match="is complex"):
        optimizer.apply(p.copy(), p)


def test_a_constraint_of_ones_own() -> None:
    """A subclass with one method, known by its name once registered."""

    class Centered(c.Constraint):
        def applied(self, p: Any, xp: Any) -> Any:
            return p - xp.mean(p)

    p = ao.SGD(lr=0.0, constraint=Centered()).apply(np.zeros(2), np.array([1.0, 3.0]))
    assert p.tolist() == [-1.0, 1.0]
    assert ao.SGD(constraint=Centered()).get_config()["constraint"] == Centered()


def test_an_axis_named_twice_is_refused_before_anything_changes() -> None:
    """Parameters that come before are not stepped."""
    opt = ao.SGD(lr=1.0, groups=[ao.group("b", constraint=c.MaxNorm(1.0, axis=[0, -2]))])
    params = {"a": np.ones(2), "b": np.ones((2, 2))}
    with pytest.raises(ValueError, match="names one of them twice"):
        opt.apply({"a": np.ones(2), "b": np.ones((2, 2))}, params)
    assert params["a"].tolist() == [1.0, 1.0]
