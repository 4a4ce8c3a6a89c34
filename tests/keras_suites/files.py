"""Files of Keras 3 that training goes on from, and its classes swapped for ours, on one backend."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import arrayoptim as ao
from keras_helpers import BACKEND, PATHS, close, draw, host, make, tensors, variables

UNEVEN: dict[str, dict[str, Any]] = {
    "Adafactor": {"learning_rate": 0.125, "relative_step": False},
    "Muon": {"learning_rate": 0.125, "momentum": 0.5},
    "ScheduleFreeAdamW": {"learning_rate": 0.125, "beta_1": 0.75, "weight_decay": 0.25},
    "Adam": {"learning_rate": 0.125, "use_ema": True, "ema_momentum": 0.5, "clipnorm": 0.5},
    "Ftrl": {"learning_rate": 0.125, "learning_rate_power": -0.25},
}


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("name", UNEVEN)
def test_files_of_keras_3_go_on(name: str, suffix: str, tmp_path: Path) -> None:
    """With kernels of four axes, read by `load` and stepped as Keras goes on."""
    if name == "ScheduleFreeAdamW" and BACKEND != "jax":
        pytest.skip("Keras reads that slot after it has written it where variables have memory")
    if (name, suffix) == ("Adafactor", "h5"):
        pytest.skip("Keras 3 gives two of its variables one name, which it cannot save")
    layers = [keras.layers.Conv2D(3, 2), keras.layers.Flatten(), keras.layers.Dense(2)]
    net = keras.Sequential([keras.Input((3, 3, 2)), *layers])
    native = getattr(keras.optimizers, name)(**UNEVEN[name])
    net.compile(native, "mean_squared_error")
    values = net.trainable_variables
    rng = np.random.default_rng(5)

    def gradients() -> list[np.ndarray]:
        return [rng.normal(size=tuple(v.shape)).astype("float32") for v in values]

    for _ in range(3):
        native.apply(tensors(gradients()), values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # absl on .h5
        net.save(tmp_path / f"net.{suffix}")
    own, params = ao.load(tmp_path / f"net.{suffix}"), host(values)
    for _ in range(3):
        given = gradients()
        native.apply(tensors(given), values)
        params = own.apply(given, params)
    close(params, host(values), 1e-5)
    assert own.iterations == 6
    if name == "Adam":
        close(own.averages(params), host(native._model_variables_moving_average), 1e-5)


SWAPPED: list[tuple[str, str, dict[str, Any]]] = [
    ("SGD", "SGD", {"momentum": 0.5, "nesterov": True, "clipnorm": 0.5}),
    ("RMSprop", "RMSprop", {"momentum": 0.5, "centered": True, "global_clipnorm": 0.5}),
    ("Adagrad", "Adagrad", {}),
    ("Adadelta", "Adadelta", {}),
    ("Adam", "Adam", {"clipvalue": 0.25, "weight_decay": 0.1}),
    ("AdamW", "AdamW", {}),
    ("Adamax", "Adamax", {}),
    ("Nadam", "Nadam", {}),
    ("Ftrl", "Ftrl", {"learning_rate_power": -0.25}),
    ("Lion", "Lion", {}),
    ("LAMB", "Lamb", {}),
    ("Adafactor", "Adafactor", {"relative_step": False}),
    ("Muon", "Muon", {"exclude_layers": ["nothing"], "adam_weight_decay": 0.25}),
    ("Muon", "Muon", {"weight_decay": 0.5, "muon_a": 3.0, "muon_b": -4.5, "muon_c": 2.0}),
    ("Muon", "Muon", {"weight_decay": 0.5, "adam_weight_decay": None}),
]


@pytest.mark.parametrize(("ours", "theirs", "kwargs"), SWAPPED)
def test_a_class_in_place_of_that_of_keras_3(ours: str, theirs: str, kwargs: Any) -> None:
    """With the preset: the same words, defaults and numbers; the same from its configuration."""
    other = getattr(keras.optimizers, theirs)(0.125, **kwargs)
    swapped = make(ours, learning_rate=0.125, preset="keras3", **kwargs)
    read = getattr(ao.keras, ours).from_config(other.get_config())
    again = type(swapped).from_config(swapped.get_config())
    rows = [variables() for _ in range(4)]
    for step in range(4):
        for optimizer, values in zip((other, swapped, read, again), rows, strict=True):
            optimizer.apply(tensors(draw(100 + step)), values)
    for values in rows[1:]:
        close(host(values), host(rows[0]), 1e-5)
    for word in ("clipnorm", "global_clipnorm", "clipvalue"):
        assert getattr(swapped, word) == getattr(other, word)


@pytest.mark.parametrize(("ours", "theirs", "_"), SWAPPED)
def test_the_order_of_arguments_is_that_of_keras_3(ours: str, theirs: str, _: Any) -> None:
    signature = inspect.signature(getattr(keras.optimizers, theirs).__init__)
    names = list(signature.parameters)[1:5]
    other = getattr(keras.optimizers, theirs)()
    values = [getattr(other, name) for name in names[1:]]
    swapped = getattr(ao.keras, ours)(0.125, *values, preset="keras3")
    assert float(swapped.learning_rate) == 0.125
    for name, value in zip(names[1:], values, strict=True):
        assert getattr(swapped, name, value) == value


def test_bounds_that_exclude_each_other() -> None:
    with pytest.raises(ValueError, match=r"Only one of .* as in Keras 3"):
        make("SGD", clipnorm=1.0, clipvalue=1.0, preset="keras3")
    assert make("SGD", clipnorm=1.0, clipvalue=1.0).clipnorm == 1.0
    for bad in ({"momentun": 0.5}, {"lr": "fast"}):
        with pytest.raises(ValueError, match=r"SGD"):
            make("SGD", **bad)


def test_clipping_by_itself() -> None:
    """What Keras's own methods ask of an optimizer outside of a step."""
    given = [np.array([3.0, 4.0], "float32"), None]
    for optimizer, wanted in (
        (make("Adam", clipnorm=1.0, preset="keras3"), [0.6, 0.8]),
        (make("Adam", clipvalue=1.0), [1.0, 1.0]),
        (make("Adam"), [3.0, 4.0]),
    ):
        found, none = optimizer._clip_gradients([tensors(given[:1])[0], None])
        close(host([found]), [np.array(wanted)], 1e-6)
        assert none is None


def test_decay_by_itself() -> None:
    """What Keras's own methods take from variables, and leave to them, outside of a step."""
    for words in ({"weight_decay": 0.5}, {"adam_weight_decay": 0.25}):
        values = variables()
        other = keras.optimizers.Muon(0.5, **words)
        swapped, wanted = make("Muon", learning_rate=0.5, preset="keras3", **words), variables()
        swapped._apply_weight_decay(values)
        other._apply_weight_decay(wanted)
        close(host(values), host(wanted), 1e-6)
        for optimizer, row in ((swapped, values), (other, wanted)):
            optimizer.build(row)
            for g, v in zip(tensors(draw(1)), row, strict=True):
                optimizer.update_step(g, v, 0.5)
        close(host(values), host(wanted), 1e-5)


def test_kernels_are_inputs_by_outputs() -> None:
    assert make("Adafactor").outputs == "last"
    assert ao.keras.wrap(ao.Adafactor()).outputs == "first"
    assert ao.keras.get(keras.optimizers.serialize(make("Shampoo"))).outputs == "last"


def test_muon_leaves_to_adam_what_keras_does() -> None:
    own = ao.Muon.from_config(keras.optimizers.Muon(exclude_layers=["gain"]).get_config())
    shapes = {"a/kernel": (3, 2), "gain/kernel": (3, 2), "embedding/table": (3, 2), "c": (3, 3, 2)}
    own.init({path.replace("/", "_"): np.zeros(shape) for path, shape in shapes.items()})
    assert sum(slot == "velocity" for slot, *_ in _rows(own)) == 3


def _rows(own: ao.Optimizer) -> list[tuple[str, ...]]:
    import io

    memory = io.BytesIO()
    own.save_weights(memory)
    memory.seek(0)
    from arrayoptim.persistence import describe

    found = describe(memory)
    return [(slot, path) for slot, paths in (found.paths or {}).items() for path in paths]


def test_rows_of_embeddings() -> None:
    """Gradients of which only some rows are there, as JAX and TensorFlow have them."""
    rows, where = np.ones((3, 2), "float32"), np.array([0, 2, 0])
    if BACKEND == "jax":
        from jax.experimental.sparse import BCOO

        sparse: Any = BCOO((rows, where[:, None]), shape=(4, 2))
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        sparse = tf.IndexedSlices(tf.constant(rows), tf.constant(where), (4, 2))
    else:
        pytest.skip("Keras on torch has none")
    dense = np.zeros((4, 2), "float32")
    np.add.at(dense, where, rows)
    found = []
    for g in (sparse, tensors([dense])[0]):
        value = keras.Variable(np.ones((4, 2), "float32"), name=PATHS[0])
        make("Adam", lr=0.125, clipnorm=1.0).apply([g], [value])
        found += host([value])
    close(found[:1], found[1:])
