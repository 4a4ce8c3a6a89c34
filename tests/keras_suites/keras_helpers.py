"""What the suites for one backend of Keras share; see `test_keras`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import arrayoptim as ao

BACKEND = keras.backend.backend()
TRACED = BACKEND != "torch"
"""Whether a step is traced, and other engines than those of this library do its arithmetic."""

SHAPES = [(3, 2), (2,), (4,), ()]
PATHS = ["kernel", "bias", "scale", "gain"]
RATE = 2.0**-5  # a number of float32, in which Keras keeps it

# Rules that are the same here and in Keras 3, with what makes the two agree.
PAIRS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("SGD", {}, "SGD", {}),
    ("SGD", {"momentum": 0.9}, "SGD", {"momentum": 0.9}),
    *[("SGD", {"momentum": 0.9, "nesterov": True}, "SGD", {"momentum": 0.9, "nesterov": True})],
    ("RMSprop", {"epsilon": 0.0}, "RMSprop", {"epsilon": 0.0}),
    ("Adagrad", {"epsilon": 0.0}, "Adagrad", {"epsilon": 0.0, "initial_accumulator_value": 0.0}),
    ("Adadelta", {}, "Adadelta", {"epsilon": 1e-8}),
    ("Adam", {}, "Adam", {"epsilon": 1e-8}),
    ("Adam", {"amsgrad": True}, "Adam", {"epsilon": 1e-8, "amsgrad": True}),
    ("Adam", {"weight_decay": 0.1}, "AdamW", {"epsilon": 1e-8, "weight_decay": 0.1}),
    ("Adamax", {}, "Adamax", {"epsilon": 1e-8}),
    ("Nadam", {"schedule_decay": 1.0}, "Nadam", {"epsilon": 1e-8}),
]


def draw(seed: int, dtype: str = "float32") -> list[np.ndarray]:
    """Return one random array per shape."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=shape)).astype(dtype) for shape in SHAPES]


def variables(seed: int = 0, dtype: str = "float32") -> list[Any]:
    """Return new variables."""
    pairs = zip(draw(seed), PATHS, strict=True)
    return [keras.Variable(value, dtype=dtype, name=name) for value, name in pairs]


def tensors(arrays: Sequence[Any], dtype: str | None = None) -> list[Any]:
    """Return tensors of the backend."""
    return [keras.ops.convert_to_tensor(x, dtype=dtype) for x in arrays]


def host(values: Sequence[Any]) -> list[np.ndarray]:
    """Return the values of variables, copied."""
    return [np.array(keras.ops.convert_to_numpy(v)) for v in values]


def make(name: str, /, **kwargs: Any) -> Any:
    """Return a Keras optimizer of this library."""
    return getattr(ao.keras, name)(**kwargs)


def train(optimizer: Any, values: Sequence[Any], steps: range, dtype: str = "float32") -> None:
    """Step variables with gradients that depend on the step number only."""
    for step in steps:
        optimizer.apply(tensors(draw(100 + step), dtype), values)


def close(found: Sequence[Any], wanted: Sequence[Any], tolerance: float = 2e-6) -> None:
    """Assert that arrays agree: to the last bit where engines of this library do the arithmetic."""
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), tolerance, tolerance
        )


def equal(found: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Assert that arrays agree to the last bit."""
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def reference(optimizer: Any, steps: range, dtype: str = "float32") -> dict[str, np.ndarray]:
    """Return the parameters that an optimizer of this library leaves, on NumPy."""
    params = dict(zip(PATHS, draw(0), strict=True))
    params = {path: p.astype(dtype) for path, p in params.items()}
    for step in steps:
        grads = zip(PATHS, draw(100 + step), strict=True)
        optimizer.apply({path: g.astype(dtype) for path, g in grads}, params)
    return params


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return a small problem."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(64, 5)).astype("float32")
    return x, np.tanh(x @ rng.normal(size=(5, 1))).astype("float32")


def model(optimizer: Any = None, seed: int = 1, **kwargs: Any) -> Any:
    """Return a small model, compiled where an optimizer is given."""
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)]
    made = keras.Sequential([keras.Input((5,)), *layers])
    if optimizer is not None:
        made.compile(loss="mean_squared_error", optimizer=optimizer, **kwargs)
    return made


def fit(made: Any, epochs: int = 3, **kwargs: Any) -> list[float]:
    """Train, always on the same batches; return the losses."""
    x, y = data()
    kwargs = {"batch_size": 16, "verbose": 0, "shuffle": False, **kwargs}
    losses: list[float] = made.fit(x, y, epochs=epochs, **kwargs).history["loss"]
    return losses
