"""Gradients of embeddings on TensorFlow, which are `IndexedSlices`; see `test_keras`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import arrayoptim as ao

tf = pytest.importorskip("tensorflow")

SHAPE = (12, 3)


def drawn(step: int, again: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return indices, some of them several times where that is wanted, and rows."""
    rng = np.random.default_rng(step)
    indices = rng.integers(0, 10, 5) if again else rng.permutation(10)[:5]
    return indices, rng.normal(size=(5, SHAPE[1])).astype(np.float32)


def trained(optimizer: Any, again: bool = False, known: bool = True) -> list[np.ndarray]:
    """Return a table and a bias after some steps of a class of Keras."""
    variables = [keras.Variable(np.ones(n, np.float32)) for n in (SHAPE, SHAPE[1:])]
    for step in range(4):
        indices, rows = map(tf.constant, drawn(step, again))
        shape = tf.constant(SHAPE) if known else None
        optimizer.apply([tf.IndexedSlices(rows, indices, shape), tf.ones(SHAPE[1])], variables)
    return [keras.ops.convert_to_numpy(v) for v in variables]


def expected(optimizer: Any, again: bool) -> list[np.ndarray]:
    """Return the same by NumPy."""
    arrays = [np.ones(n, np.float32) for n in (SHAPE, SHAPE[1:])]
    for step in range(4):
        grads = [ao.Rows(*drawn(step, again), SHAPE), np.ones(SHAPE[1], np.float32)]
        optimizer.apply(grads, arrays)
    return arrays


@pytest.mark.parametrize(("name", "settings"), [("SGD", {"momentum": 0.9}), ("Adam", {})])
def test_exact_steps_are_those_of_keras(name: str, settings: dict[str, Any]) -> None:
    """Where no row comes twice: Keras squares them before it adds them up."""
    ours = getattr(ao.keras, name)(0.1, preset="keras3", **settings)
    theirs = getattr(keras.optimizers, name)(0.1, **settings)
    for a, b in zip(trained(ours), trained(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("mode", ["lazy", "exact", None])
@pytest.mark.parametrize("known", [True, False])
def test_numbers_are_those_of_numpy(mode: str | None, known: bool) -> None:
    """Rows that come twice and a bound on the norm included, whether or not a shape is told."""
    settings = {"lr": 0.1, "clipnorm": 0.5, "sparse": mode}
    if not known and mode != "lazy":
        return  # TensorFlow itself makes them dense
    found = trained(ao.keras.Adam(**settings), again=True, known=known)
    for a, b in zip(found, expected(ao.Adam(**settings), again=True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_model() -> None:
    """Rows that no batch has looked up stay what they are, in a compiled training step."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input((4,), dtype="int32"),
            keras.layers.Embedding(50, 8),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    table = model.layers[0].embeddings
    before = keras.ops.convert_to_numpy(table).copy()
    model.compile(optimizer=ao.keras.Adam(0.1, sparse="lazy"), loss="mse")
    x, y = np.random.default_rng(1).integers(0, 20, (32, 4)), np.ones((32, 1))
    losses = model.fit(x, y, epochs=5, verbose=0, batch_size=8).history["loss"]
    after = keras.ops.convert_to_numpy(table)
    assert losses[-1] < losses[0]
    assert (after[20:] == before[20:]).all() and (after[:20] != before[:20]).any(axis=1).all()


@pytest.mark.parametrize("mode", ["lazy", "exact"])
def test_variables_of_tensorflow(mode: str) -> None:
    """They are written in place, and a graph computes the same."""
    table, params = tf.Variable(tf.ones(SHAPE)), tf.ones(SHAPE)
    eager, pure = (ao.Adam(lr=0.1, sparse=mode) for _ in range(2))
    state = pure.init_state(params)

    @tf.function(autograph=False)
    def step(state: Any, indices: Any, rows: Any, params: Any) -> Any:
        return pure.stateless_apply(state, tf.IndexedSlices(rows, indices), params)

    wanted, plain = np.ones(SHAPE, np.float32), ao.Adam(lr=0.1, sparse=mode)
    for k in range(4):
        indices, rows = map(tf.constant, drawn(k, True))
        assert eager.apply(tf.IndexedSlices(rows, indices), table) is table
        params, state = step(state, indices, rows, params)
        plain.apply(ao.Rows(*drawn(k, True), SHAPE), wanted)
    for found in (table, params):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)


def test_rows_out_of_range() -> None:
    table, optimizer = tf.Variable(tf.ones(SHAPE)), ao.Adam(sparse="lazy")
    bad = tf.IndexedSlices(tf.ones((1, SHAPE[1])), tf.constant([SHAPE[0]]))
    with pytest.raises(ValueError, match=r"row 12 of 12"):
        optimizer.apply(bad, table)
    assert optimizer.iterations == 0
