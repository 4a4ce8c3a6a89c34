"""Steps on TensorFlow's own variables and tensors, without Keras; see `test_keras`."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.arrays.tensorflow import functions
from optimizers_under_test import draw_for, make
from places import ROOT

tf = pytest.importorskip("tensorflow")

OPTIONS: list[dict[str, Any]] = [
    {},
    {"clipnorm": 1.0, "clipvalue": 0.5, "weight_decay": 0.01, "ema_momentum": 0.9},
    {"nonfinite": "skip"},
]


def gradients(step: int, dtype: str, options: dict[str, Any]) -> list[np.ndarray]:
    grads = draw_for(step, dtype)
    if step == 3 and "nonfinite" in options:
        grads[0][0, 0] = np.nan
    return [np.array(g, dtype) for g in grads]


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "all stages", "skip"])
def test_numbers_are_those_of_numpy(name: str, dtype: str, options: dict[str, Any]) -> None:
    hyper = {"lr": 2.0**-5, **options}
    arrays = [np.array(p, dtype) for p in draw_for(0, dtype)]
    variables = [tf.Variable(p) for p in arrays]
    params: Any = [tf.constant(p) for p in arrays]
    host, eager, pure = (make(name, **hyper) for _ in range(3))
    state = pure.init_state(params)
    traces = []

    @tf.function(autograph=False)
    def step(state: Any, grads: Any, params: Any) -> Any:
        traces.append(1)
        return pure.stateless_apply(state, grads, params)

    for k in range(5):
        grads = gradients(k, dtype, options)
        host.apply(grads, arrays)
        result = eager.apply(list(map(tf.constant, grads)), variables)
        assert all(a is b for a, b in zip(result, variables, strict=True))
        params, state = step(state, list(map(tf.constant, grads)), params)
    assert len(traces) == 1
    tolerance = 1e-14 if dtype == "float64" else 1e-6
    for wanted, *found in zip(arrays, variables, params, strict=True):
        for each in found:
            np.testing.assert_allclose(each.numpy(), wanted, tolerance, tolerance)
    assert eager.skipped == int(state["skipped"]) == host.skipped == ("nonfinite" in options)


def test_the_rate_of_a_compiled_step_is_an_input() -> None:
    optimizer, params = ao.Adam(lr=0.5), [tf.ones(3)]
    state, traces = optimizer.init_state(params), []

    @tf.function(autograph=False)
    def step(state: Any, params: Any) -> Any:
        traces.append(1)
        return optimizer.stateless_apply(state, [tf.ones(3)], params)

    for rate in (0.5, 0.25, 0.125):
        state["hyper"]["lr"] = tf.constant(rate, tf.float64)
        before = params[0]
        params, state = step(state, params)
        np.testing.assert_allclose(before - params[0], rate, 1e-5)
    assert len(traces) == 1


def test_tensors_come_back_new_and_state_is_saved(tmp_path: Any) -> None:
    optimizer, params = ao.Adam(lr=0.5), {"w": tf.ones(3)}
    new = optimizer.apply({"w": tf.ones(3)}, params)
    assert np.all(params["w"].numpy() == 1) and np.all(new["w"].numpy() < 1)
    optimizer.save_weights(tmp_path / "state.h5")
    again = ao.load(tmp_path / "state.h5")
    other = again.apply({"w": tf.ones(3)}, new)
    np.testing.assert_array_equal(
        other["w"].numpy(), optimizer.apply({"w": tf.ones(3)}, new)["w"].numpy()
    )


def test_signs_and_zeros() -> None:
    xp, numbers = functions(), np.array([0.0, -0.0, 2.0, -2.0, np.inf, -np.inf], np.float32)
    for y in numbers:
        found = xp.copysign(tf.constant(numbers), tf.constant(y)).numpy()
        wanted = np.copysign(numbers, y)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_a_number_takes_the_type_of_the_tensor_beside_it(dtype: str) -> None:
    xp, x = functions(), tf.constant(2.0, dtype)
    found = [xp.maximum(1.0, x), xp.minimum(3, x), xp.where(False, 1.0, x), xp.where(True, x, 0.0)]
    assert [(each.dtype.name, float(each)) for each in found] == [(dtype, 2.0)] * 4
    for each in (xp.maximum(0.1, 0), xp.where(True, 0.1, 0)):
        assert (each.dtype.name, float(each)) == ("float64", 0.1)
    with pytest.raises((TypeError, ValueError, tf.errors.InvalidArgumentError)):
        xp.maximum(x, tf.constant(1.0, "float16"))


def test_bad_gradients() -> None:
    variable = tf.Variable([1.0, 2.0])
    for grad, message in [(tf.ones(3), "shape"), (np.ones(2), "array of numpy")]:
        with pytest.raises(ValueError, match=message):
            ao.SGD(lr=1.0).apply([grad], [variable])
    np.testing.assert_array_equal(variable.numpy(), [1.0, 2.0])


def test_rows_are_taken() -> None:
    variable = tf.Variable([1.0, 2.0])
    rows = tf.IndexedSlices(tf.ones(1), tf.constant([0]), tf.constant([2]))
    ao.SGD(lr=1.0).apply([rows], [variable])
    np.testing.assert_array_equal(variable.numpy(), [0.0, 2.0])


def test_every_function_of_the_rules_is_there() -> None:
    """What rules, schedules and stages call of ``xp``, TensorFlow's namespace has."""
    package, used = ROOT / "src" / "arrayoptim", set()
    for room in ("optimizers", "rules", "schedules", "wrappers", "numerics", "step"):
        for path in (package / room).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            used |= {
                node.attr
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "xp"
            }
    assert len(used) > 30 and sorted(used - vars(functions()).keys()) == []
