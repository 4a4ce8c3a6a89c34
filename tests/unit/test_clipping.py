"""Clipping by every norm there is, in its order, on every backend and engine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import NUMPY, TestBackend
from optimizers_under_test import draw, make, same

SHAPES = [(4, 3), (5,), (), (2, 3, 4), (0, 2)]
EVERYTHING = {"clipnorm": 6.0, "clipnorm_per_tensor": 2.5, "agc": 0.4, "clipvalue": 0.3}
MODES: list[dict[str, Any]] = [
    {"clipnorm_per_tensor": 1.5},
    {"clipnorm": 3.0, "clipnorm_per_tensor": 1.5},
    {"agc": 0.1},
    {"agc": 0.2, "agc_units": "first"},
    {"agc": 0.3, "agc_units": "tensor"},
    {"clipnorm_per_tensor": 2.0, "agc": 0.5, "clipvalue": 0.4},
    EVERYTHING,
    {"clipnorm_per_tensor": 0, "agc": 0},
    {"clipnorm_per_tensor": math.inf, "agc": math.inf},
]


def norm(x: Any, axis: Any = None) -> Any:
    """Return Euclidean norms; along axes, or of everything."""
    return np.sqrt(np.sum(np.abs(x) ** 2, axis=axis, keepdims=axis is not None))


def bounded(x: Any, size: Any, bound: Any) -> Any:
    """Return an array, or its parts, scaled down to a bound of the norm."""
    return x * np.where(size > bound, bound / np.where(size > bound, size, 1.0), 1.0)


def reference(
    params: list[Any], grads: list[Any], /, agc_units: str = "last", **modes: float
) -> list[Any]:
    """Return clipped gradients: the global norm, each tensor's, each unit's, each entry."""
    modes = {name: bound for name, bound in modes.items() if bound}
    if "clipnorm" in modes:
        whole = math.sqrt(sum(norm(g) ** 2 for g in grads))
        grads = [bounded(g, whole, modes["clipnorm"]) for g in grads]
    if "clipnorm_per_tensor" in modes:
        grads = [bounded(g, norm(g), modes["clipnorm_per_tensor"]) for g in grads]
    if "agc" in modes:
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            axes = {"last": range(p.ndim - 1), "first": range(1, p.ndim)}.get(agc_units, [])
            axis = tuple(axes) if p.ndim > 1 and agc_units != "tensor" else None
            most = modes["agc"] * np.maximum(norm(p, axis), 1e-3)
            grads[i] = bounded(g, norm(g, axis), most)
    value = modes.get("clipvalue", math.inf)
    return [np.clip(g, -value, value) for g in grads]


def moved(
    backend: TestBackend, grads: list[Any], dtype: str, groups: Any = (), **modes: Any
) -> list[Any]:
    """Return what SGD with lr=1 takes off the parameters."""
    params = draw(0, SHAPES)
    new = backend.tree(params, dtype)
    new = ao.SGD(lr=1.0, groups=groups, **modes).apply(backend.tree(grads, dtype), new)
    return [np.asarray(p) - q for p, q in zip(params, backend.read(new), strict=True)]


@pytest.mark.parametrize("modes", MODES, ids="-".join)
def test_the_order(backend: TestBackend, engine: str, modes: dict[str, Any]) -> None:
    """Each norm is that of what the mode before left."""
    grads = draw(1, SHAPES)
    with ao.engine(engine):
        found = moved(backend, grads, "float64", **modes)
    for a, b in zip(found, reference(draw(0, SHAPES), grads, **modes), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("left_out", EVERYTHING)
def test_every_mode_tells(left_out: str) -> None:
    """The test above would notice a mode that is left out, or that comes first."""
    params, grads = draw(0, SHAPES), draw(1, SHAPES)
    right = reference(params, grads, **EVERYTHING)
    others = {name: bound for name, bound in EVERYTHING.items() if name != left_out}
    first = reference(params, draw(1, SHAPES), **{left_out: EVERYTHING[left_out]})
    wrong = [reference(params, draw(1, SHAPES), **others)]
    wrong += [reference(params, first, **others)] if left_out != "clipnorm" else []
    for each in wrong:
        assert any(not np.allclose(a, b) for a, b in zip(right, each, strict=True))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("modes", [{"clipnorm_per_tensor": 1.5}, EVERYTHING], ids="-".join)
def test_engines_agree(dtype: str, modes: dict[str, Any]) -> None:
    """To the last bit, in one fused loop with a scale for each tensor."""
    found = []
    for engine in ("array", "cpu"):
        optimizer, params = ao.Adam(lr=0.1, **modes), NUMPY.tree(draw(0, SHAPES), dtype)
        with ao.engine(engine):
            for step in range(4):
                optimizer.apply(NUMPY.tree(draw(1 + step, SHAPES), dtype), params)
        found.append([*params, *optimizer.get_weights()])
    same(*found)


def test_complex_units(backend: TestBackend, engine: str) -> None:
    """A complex number counts with its magnitude."""
    if "complex128" not in backend.dtypes:
        return
    params, grads = ([a + 1j * b for a, b in zip(draw(k), draw(9 + k))] for k in (0, 1))
    with ao.engine(engine):
        new = ao.SGD(lr=1.0, agc=0.1, clipnorm_per_tensor=1.0).apply(
            backend.tree(grads), backend.tree(params)
        )
    wanted = reference(params, grads, agc=0.1, clipnorm_per_tensor=1.0)
    for p, q, g in zip(params, backend.read(new), wanted, strict=True):
        np.testing.assert_allclose(p - q, g, rtol=1e-12, atol=1e-14)


def test_groups_have_bounds_of_their_own(backend: TestBackend, engine: str) -> None:
    """Each is clipped by its own; where a group has none, only by the rest."""
    grads = draw(1, SHAPES)
    groups = [
        ao.group("1", clipnorm_per_tensor=0.5, clipvalue=0.2),
        ao.group("3", agc=None, clipnorm_per_tensor=None),
    ]
    with ao.engine(engine):
        found = moved(backend, grads, "float64", groups, agc=0.2, clipnorm_per_tensor=1.0)
    params = draw(0, SHAPES)
    wanted = reference(params, grads, agc=0.2, clipnorm_per_tensor=1.0)
    wanted[1] = reference([params[1]], [grads[1]], agc=0.2, clipnorm_per_tensor=0.5, clipvalue=0.2)[
        0
    ]
    wanted[3] = grads[3]
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_a_scaled_loss_is_clipped_in_its_true_size(backend: TestBackend) -> None:
    """The bounds are those of gradients that were never scaled."""
    grads = draw(1, SHAPES)
    wanted = reference(draw(0, SHAPES), grads, **EVERYTHING)
    optimizer = ao.LossScale(ao.SGD(lr=1.0, **EVERYTHING), scale=1024.0)
    new = optimizer.apply(
        backend.tree([1024.0 * g for g in grads], "float64"), backend.tree(draw(0, SHAPES))
    )
    for p, q, g in zip(draw(0, SHAPES), backend.read(new), wanted, strict=True):
        np.testing.assert_allclose(p - q, g, rtol=1e-12, atol=1e-14)


def test_pure_form_and_gradients_and_updates(backend: TestBackend) -> None:
    """Every other way to step clips alike; `get_gradients` gives the clipped gradients."""
    hyper: dict[str, Any] = {"lr": 1.0, **EVERYTHING, "groups": [ao.group("1", clipvalue=0.1)]}
    wanted = moved(backend, draw(1, SHAPES), "float64", hyper["groups"], **EVERYTHING)
    params, grads = (backend.tree(draw(k, SHAPES), "float64") for k in (0, 1))
    optimizer = ao.SGD(**hyper)
    clipped = optimizer.get_gradients(lambda _: (0.0, grads), params)
    pure, _ = optimizer.stateless_apply(optimizer.init_state(params), grads, params)
    optimizer.init(params)
    later = optimizer.get_updates(params, lambda _: (0.0, grads))
    planned = [value for target, value in later if not hasattr(target, "optimizer")]
    for i, g in enumerate(wanted):
        np.testing.assert_allclose(backend.to_numpy(clipped[i]), g, rtol=1e-12, atol=1e-14)
        for new in (pure, planned):
            p = backend.to_numpy(new[i])
            np.testing.assert_allclose(draw(0, SHAPES)[i] - p, g, rtol=1e-12, atol=1e-14)


@pytest.mark.needs("jax")
def test_compiled() -> None:
    """Under `jax.jit` the bounds are inputs, so that new ones need no new compilation."""
    import jax

    params, grads = ([jax.numpy.asarray(a) for a in draw(k, SHAPES)] for k in (0, 1))
    optimizer, compiled = ao.SGD(lr=1.0, **EVERYTHING), []

    @jax.jit
    def step(state: Any) -> Any:
        compiled.append(1)
        return optimizer.stateless_apply(state, grads, params)

    state = optimizer.init_state(params)
    for bounds in (EVERYTHING, dict.fromkeys(EVERYTHING, 0.1), dict.fromkeys(EVERYTHING, 0.0)):
        state["hyper"] |= {k: jax.numpy.asarray(v) for k, v in bounds.items()}
        new, _ = step(state)
        wanted = reference(draw(0, SHAPES), draw(1, SHAPES), **bounds)
        for p, q, g in zip(draw(0, SHAPES), new, wanted, strict=True):
            np.testing.assert_allclose(p - np.asarray(q), g, rtol=1e-12, atol=1e-14)
    assert len(compiled) == 1


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_norms_do_not_overflow(engine_of_numpy: str, size: float) -> None:
    """Nor vanish: squares out of range are summed after a shift."""
    for name in ("clipnorm_per_tensor", "agc"):
        bound = 0.5 * size if name == "clipnorm_per_tensor" else 0.5 * size / 1e-3
        p = np.zeros(2)
        with ao.engine(engine_of_numpy):
            ao.SGD(lr=1.0, **{name: bound}).apply(np.array([3.0, -4.0]) * size, p)
        np.testing.assert_allclose(p, [-0.3 * size, 0.4 * size], rtol=1e-6)


@pytest.fixture(params=["array", "cpu"])
def engine_of_numpy(request: pytest.FixtureRequest) -> str:
    """Return each engine that serves NumPy arrays."""
    return str(request.param)


def test_missing_and_frozen_gradients(engine_of_numpy: str) -> None:
    """They have no norm, and their parameters stay."""
    params, grads = draw(0, SHAPES), draw(1, SHAPES)
    grads[1] = None
    wanted = moved(NUMPY, draw(1, SHAPES), "float64", agc=0.1, clipnorm_per_tensor=1.0)
    groups = [ao.group("0", freeze=True)]
    with ao.engine(engine_of_numpy):
        ao.SGD(lr=1.0, agc=0.1, clipnorm_per_tensor=1.0, groups=groups).apply(grads, params)
    for i, (p, q, g) in enumerate(zip(draw(0, SHAPES), params, wanted, strict=True)):
        np.testing.assert_allclose(p - q, 0.0 * g if i < 2 else g, rtol=1e-12, atol=1e-14)


def test_frozen_gradients_do_not_count() -> None:
    """Not in what `get_gradients` gives either."""
    optimizer = ao.SGD(clipnorm=1.0, groups=[ao.group("0", freeze=True)])
    grads = [np.full(1, 9.0), np.array([3.0, 4.0])]
    found = optimizer.get_gradients(lambda _: (0.0, grads), [np.ones(1), np.ones(2)])
    np.testing.assert_allclose(found[1], [0.6, 0.8], rtol=1e-15)


def test_config_and_file(tmp_path: Path) -> None:
    """The modes survive both, of a group too."""
    optimizer = make("Adam", **EVERYTHING, agc_units="first", groups=[ao.group("0", agc=None)])
    assert ao.Adam.from_config(optimizer.get_config()).get_config() == optimizer.get_config()
    optimizer.apply(draw(1), draw(0))
    optimizer.save_weights(tmp_path / "w.h5")
    assert ao.load(tmp_path / "w.h5").get_config() == optimizer.get_config()


def test_the_clipnorm_of_keras_3() -> None:
    """Its configurations are read without a loss, whichever of the three modes they name."""
    empty = {"clipnorm": None, "global_clipnorm": None, "clipvalue": None, "learning_rate": 0.1}
    pairs = {"clipnorm": "clipnorm_per_tensor", "global_clipnorm": "clipnorm"}
    for theirs, ours in {**pairs, "clipvalue": "clipvalue"}.items():
        found = ao.SGD.from_config({**empty, theirs: 0.25}).get_config()
        assert found[ours] == 0.25 and len({*pairs.values(), "clipvalue"} & set(found)) == 1
