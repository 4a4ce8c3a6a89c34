"""Optimizers of TensorFlow and Keras behind our surface; see `test_keras`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import arrayoptim as ao
import foreign_checks as checks
from backends import NUMPY, TestBackend
from optimizers_under_test import same

train, own = tf.compat.v1.train, keras.optimizers


def library(name: str, convert: Any, in_place: bool) -> TestBackend:
    return TestBackend(name, convert, lambda x: x.numpy(), ("float32",), in_place)


VARIABLES = library("variables", tf.Variable, True)
LIBRARIES = [NUMPY, VARIABLES, library("tensors", tf.constant, False)]
try:
    import torch
except ModuleNotFoundError:  # the suite runs by itself where TensorFlow alone is installed
    pass
else:
    LIBRARIES.append(library("torch", torch.tensor, True))
try:
    import jax
except ModuleNotFoundError:
    pass
else:
    LIBRARIES.append(TestBackend("jax", jax.numpy.array, np.array, ("float32",), False))


def scheduled() -> Any:
    return own.AdamW(own.schedules.ExponentialDecay(0.1, 2, 0.5), clipnorm=0.5)


CASES: dict[str, Callable[[], Any]] = {
    "v1 descent": lambda: train.GradientDescentOptimizer(0.1),
    "v1 momentum": lambda: train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
    "v1 adam": lambda: train.AdamOptimizer(0.1),
    "v1 rmsprop": lambda: train.RMSPropOptimizer(0.1, momentum=0.5, centered=True),
    "v1 ftrl": lambda: train.FtrlOptimizer(0.1),
    "adam": lambda: own.Adam(0.1, amsgrad=True, use_ema=True),
    "scheduled": scheduled,
    "scaled": lambda: own.LossScaleOptimizer(own.SGD(0.1, momentum=0.9)),
}
cases = pytest.mark.parametrize("make", CASES.values(), ids=list(CASES))
libraries = pytest.mark.parametrize("backend", LIBRARIES, ids=str)


def run(make: Callable[[], Any]) -> checks.Native:
    def native(start: list[np.ndarray], steps: list[list[np.ndarray]]) -> list[np.ndarray]:
        variables, optimizer = [tf.Variable(a) for a in start], make()
        for grads in steps:
            optimizer.apply_gradients(zip(map(tf.constant, grads), variables, strict=True))
        return [v.numpy() for v in variables]

    return native


@cases
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_are_native(make: Callable[[], Any], dtype: str) -> None:
    checks.equals_native(lambda: ao.TFOptimizer(make()), run(make), NUMPY, dtype)


@libraries
@pytest.mark.parametrize("name", ["v1 adam", "adam"])
def test_on_every_library(name: str, backend: TestBackend) -> None:
    make, dtype = CASES[name], "float32"
    checks.equals_native(lambda: ao.TFOptimizer(make()), run(make), backend, dtype)


@cases
def test_goes_on_exactly(make: Callable[[], Any], tmp_path: Path) -> None:
    checks.goes_on_exactly(lambda: ao.get(make()), NUMPY, tmp_path)


@pytest.mark.parametrize("name", ["v1 adam", "adam"])
def test_variables_go_on_exactly(name: str, tmp_path: Path) -> None:
    checks.goes_on_exactly(lambda: ao.get(CASES[name]()), VARIABLES, tmp_path)


@cases
def test_updates(make: Callable[[], Any]) -> None:
    checks.updates_are_a_step(lambda: ao.get(make()), NUMPY)


def test_refuses(tmp_path: Path) -> None:
    checks.refuses(lambda: ao.TFOptimizer(train.AdamOptimizer()), NUMPY, tmp_path)


@cases
def test_variables_are_stepped_themselves(make: Callable[[], Any]) -> None:
    """Updates of them can be computed first; another variable in their place is refused."""
    opt, variable = ao.TFOptimizer(make()), tf.Variable([1.0, -2.0])
    value = variable.numpy()
    updates = opt.get_updates(lambda v: tf.reduce_sum(v**2), variable)
    same([variable.numpy()], [value])
    opt.apply_updates(updates)
    twin = tf.Variable(value)
    assert ao.TFOptimizer(make()).minimize(lambda v: tf.reduce_sum(v**2), twin) is twin
    same([variable.numpy()], [twin.numpy()])
    with pytest.raises(ValueError, match="not the variable of the step before"):
        opt.apply(tf.ones(2), tf.Variable(value))
    opt.apply(tf.ones(2), variable)
    assert opt.iterations == 2


@cases
def test_none_leaves_parameter_and_state_alone(make: Callable[[], Any]) -> None:
    opt, params = ao.TFOptimizer(make()), [np.ones(2, "float32"), np.ones(3, "float32")]
    opt.apply([None, np.ones(3, "float32")], params)
    same([params[0]], [np.ones(2, "float32")])
    assert np.all(params[1] != 1.0)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("v1")])
def test_made_from_configuration_and_file(name: str, tmp_path: Path) -> None:
    """Keras's tell their arguments; none of them has a file import a module."""
    opt, params = ao.get(CASES[name]()), [np.ones(2, "float32")]
    opt.apply([np.ones(2, "float32")], params)
    opt.save_weights(tmp_path / "state.h5")
    again, copies = ao.load(tmp_path / "state.h5"), [params[0].copy()]
    for _ in range(3):
        opt.apply([np.ones(2, "float32")], params)
        again.apply([np.ones(2, "float32")], copies)
    same(copies, params)
    config = ao.serialize(opt)
    assert ao.deserialize(config).get_config() == config["config"]
    config["config"]["arguments"]["learning_rate"] = {"module": "os", "class_name": "system"}
    with pytest.raises(ValueError, match="the module 'os'"):
        ao.deserialize(config)


def test_excluded_by_name() -> None:
    """Variables have the names of the parameters, by which Keras leaves some out of decay."""
    native = own.SGD(0.5, weight_decay=0.5)
    native.exclude_from_weight_decay(var_names=["bias"])
    params = {"dense/bias": np.ones(2), "dense/kernel": np.ones(2)}
    zeros = {name: np.zeros(2) for name in params}
    found = ao.TFOptimizer(native).apply(zeros, params)
    same(list(found.values()), [np.ones(2), np.full(2, 0.75)])


def test_bad_input(tmp_path: Path) -> None:
    """What was given is named, and what can be done."""
    with pytest.raises(TypeError, match=r"found 'adam', wanted a tf.compat.v1.train.Optimizer or"):
        ao.TFOptimizer("adam")
    used = own.SGD(0.1)
    used.build([tf.Variable([1.0])])
    with pytest.raises(ValueError, match=r"a SGD that has state .* wanted a new one"):
        ao.get(used)
    held = train.AdamOptimizer()
    nested = train.AdamOptimizer()
    nested._opt = held
    with pytest.raises(TypeError, match="holds another optimizer as _opt"):
        ao.get(nested)
    opt = ao.get(held)
    with pytest.raises(NotImplementedError, match=r"v1.train.AdamOptimizer does not tell"):
        opt.get_config()
    opt.apply([np.ones(2)], [np.ones(2)])
    opt.save_weights(tmp_path / "adam.h5")
    with pytest.raises(NotImplementedError, match="AdamOptimizer comes without its arguments"):
        ao.load(tmp_path / "adam.h5")
    with pytest.raises(ValueError, match=r"keras.optimizers has no 'Eve'"):
        ao.TFOptimizer.from_config({"optimizer": "Eve", "arguments": {}})
    assert repr(opt) == "TFOptimizer(tf.compat.v1.train.AdamOptimizer)"


def test_gradients_by_the_tape() -> None:
    """Of variables and tensors; a parameter without part in the loss is named, and so is a loss
    that is no scalar."""
    table = tf.Variable(np.ones((4, 2), "float32"))
    for params in ([table, None], [tf.constant(table), None]):
        found, _ = ao.SGD().get_gradients(lambda p: tf.reduce_sum(tf.gather(p[0], [1, 1])), params)
        same([found.numpy()], [np.array([[0, 0], [2, 2], [0, 0], [0, 0]], "float32")])
    with pytest.raises(ValueError, match="does not depend on parameter 'b'"):
        ao.SGD().minimize(lambda p: tf.reduce_sum(p["a"]), {"a": tf.ones(2), "b": tf.ones(2)})
    with pytest.raises(TypeError, match="wanted a scalar"):
        ao.SGD().minimize(lambda p: p, table)
    same([ao.SGD().get_gradients(lambda _: (0.0, tf.ones(2)), tf.zeros(2)).numpy()],
         [np.ones(2, "float32")])  # fmt: skip
    found = ao.minimize(lambda p: tf.reduce_sum((p - 3.0) ** 2), table, "adam", steps=3)
    assert found.params is table and len(found.history) == 3
