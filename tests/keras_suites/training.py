"""Models trained, saved and loaded with the Keras classes on one backend; see `test_keras`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.persistence import read
from keras_helpers import (
    BACKEND,
    PAIRS,
    RATE,
    close,
    data,
    equal,
    fit,
    host,
    make,
    model,
    tensors,
)
from optimizers_under_test import NAMES
from tuned import tuned

PLAIN = [pair for pair in PAIRS if "epsilon" not in pair[1]]
"""Those without epsilon divide by gradients near 0, where rounding is all there is."""


def test_the_two_lines_of_keras_2() -> None:
    sgd = ao.keras.SGD(lr=0.01, decay=1e-6, momentum=0.9, nesterov=True)
    made = model()
    made.compile(loss="mean_squared_error", optimizer=sgd)
    losses = fit(made, 5)
    assert losses[-1] < 0.5 * losses[0]
    assert made.evaluate(*data(), verbose=0) < losses[0]
    assert int(sgd.iterations) == 20 and made.optimizer is sgd


def test_every_optimizer_trains(name: str) -> None:
    losses = fit(model(make(name, **tuned(name, "network", lr=0.01))), 10)
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize(("ours", "hyper", "theirs", "others"), PLAIN)
def test_to_the_same_loss_as_with_keras(
    ours: str, hyper: dict[str, Any], theirs: str, others: dict[str, Any]
) -> None:
    rate = 1.0 if ours == "Adadelta" else RATE
    mine = fit(model(make(ours, lr=rate, **hyper)))
    other = fit(model(getattr(keras.optimizers, theirs)(learning_rate=rate, **others)))
    np.testing.assert_allclose(mine, other, 1e-4)


def test_by_name() -> None:
    made = model("arrayoptim>Adam")
    assert type(made.optimizer) is ao.keras.Adam
    first = made.train_on_batch(*data())
    assert made.train_on_batch(*data()) < first


def test_callbacks_set_the_rate_and_nothing_is_compiled_again() -> None:
    optimizer = make("Adam", lr=0.5)
    made, calls = model(optimizer), []
    inner = optimizer._inner
    computed = inner.coefficients
    object.__setattr__(inner, "coefficients", lambda *a: (calls.append(1), computed(*a))[1])
    seen: list[float] = []
    sets = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 2.0**-epoch)
    reads = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(len(calls)),
    )
    fit(made, 4, callbacks=[sets, reads])
    assert float(optimizer.lr) == 2.0**-3
    assert BACKEND == "torch" or seen[0] == seen[3]
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=0, min_delta=1e9)
    fit(made, 3, callbacks=[plateau])
    assert float(optimizer.learning_rate) < 2.0**-4


def test_schedule_in_a_model() -> None:
    rate = keras.optimizers.schedules.CosineDecay(0.05, 12)
    mine = fit(model(make("SGD", lr=rate, momentum=0.9)))
    other = fit(model(keras.optimizers.SGD(rate, momentum=0.9)))
    np.testing.assert_allclose(mine, other, 1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_accumulation_steps": 2},
        {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3},
        {"loss_scale_factor": 128.0},
        {"clipvalue": 0.01},
        {"weight_decay": 0.1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_of_keras(options: dict[str, Any]) -> None:
    mine = model(make("SGD", lr=RATE, momentum=0.5, **options))
    other = model(keras.optimizers.SGD(RATE, momentum=0.5, **options))
    np.testing.assert_allclose(fit(mine), fit(other), 1e-4)
    close(host(mine.weights), host(other.weights), 1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_mixed_precision(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        made = model(make("Adam", lr=0.01))
        losses = fit(made, 5)
    finally:
        keras.config.set_dtype_policy("float32")
    scaled = isinstance(made.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    assert losses[-1] < losses[0]


def test_embeddings() -> None:
    def embedded(optimizer: Any) -> Any:
        keras.utils.set_random_seed(3)
        layers = [keras.layers.Embedding(7, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
        made = keras.Sequential([keras.Input((4,), dtype="int32"), *layers])
        made.compile(loss="mse", optimizer=optimizer)
        return made

    words = np.random.default_rng(0).integers(0, 7, (32, 4)).astype("int32")
    target = words.mean(axis=1, keepdims=True).astype("float32")
    losses = [
        embedded(each).fit(words, target, epochs=3, verbose=0, shuffle=False).history["loss"]
        # Of a rule that is linear in the gradient: on TensorFlow, Keras's Adam takes the squares of
        # a word's gradients before it adds them up.
        for each in (make("SGD", lr=RATE), keras.optimizers.SGD(RATE))
    ]
    np.testing.assert_allclose(losses[0], losses[1], 1e-4)


def test_a_loop_of_ones_own() -> None:
    made, optimizer = model(), make("Adam", lr=0.01, clipnorm=1.0)
    other = model(make("Adam", lr=0.01, clipnorm=1.0))
    x, y = data()
    for _ in range(5):
        optimizer.apply_gradients(zip(gradients(made, x, y), made.trainable_variables, strict=True))
        other.train_on_batch(x, y)
    close(host(made.weights), host(other.weights), 1e-5)


def gradients(made: Any, x: np.ndarray, y: np.ndarray) -> list[Any]:
    """Differentiate the mean squared error in the way of the backend."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(made(x, training=True) - y))
        return list(tape.gradient(loss, made.trainable_variables))
    if BACKEND == "torch":
        made.zero_grad()
        keras.ops.mean(keras.ops.square(made(x, training=True) - keras.ops.array(y))).backward()
        return [v.value.grad for v in made.trainable_variables]
    import jax

    def loss(values: list[Any]) -> Any:
        output, _ = made.stateless_call(values, [], x, training=True)
        return keras.ops.mean(keras.ops.square(output - y))

    return list(jax.grad(loss)([v.value for v in made.trainable_variables]))


def reloaded(made: Any, file: Path, caplog: pytest.LogCaptureFixture) -> Any:
    """Save a model and load it, without an error that Keras would only log."""
    made.save(file)
    loaded = keras.models.load_model(file)
    assert not [record for record in caplog.records if "Error" in record.getMessage()]
    return loaded


SAVED = [
    ("SGD", {"momentum": 0.9, "schedule_decay": 0.01}),
    ("Adam", {"amsgrad": True, "clipnorm": 1.0, "weight_decay": 0.01, "exclude": "*/bias"}),
    ("Nadam", {}),
    # On JAX, Keras's averages share their buffers with the variables after `fit`, and a second
    # `fit` fails with Keras's own optimizers too.
    ("RMSprop", {"use_ema": BACKEND != "jax", "gradient_accumulation_steps": 3}),
]


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize(("name", "hyper"), SAVED, ids=[name for name, _ in SAVED])
def test_a_loaded_model_goes_on_exactly(
    name: str, hyper: dict[str, Any], ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / f"model{ending}"
    whole = model(make(name, lr=RATE, **hyper))
    fit(whole, 2)
    loaded = reloaded(whole, file, caplog)
    assert type(loaded.optimizer) is type(whole.optimizer)
    assert loaded.optimizer.get_config() == whole.optimizer.get_config()
    np.testing.assert_array_equal(fit(loaded, 2), fit(whole, 2))
    equal(host(loaded.weights), host(whole.weights))
    equal(host(loaded.optimizer.variables), host(whole.optimizer.variables))


def test_weights_loaded_before_the_state_is_made(tmp_path: Path) -> None:
    file = tmp_path / "model.weights.h5"
    whole = model(make("Adam", lr=RATE))
    fit(whole, 2)
    whole.save_weights(file)
    loaded = model(make("Adam", lr=RATE), seed=2)
    loaded.load_weights(file)
    np.testing.assert_array_equal(fit(loaded, 2), fit(whole, 2))
    equal(host(loaded.optimizer.variables), host(whole.optimizer.variables))


def test_state_of_a_file_goes_on_in_keras(tmp_path: Path) -> None:
    whole = model(make("Nadam", lr=RATE, clipnorm=1.0))
    fit(whole, 2)
    whole.save(tmp_path / "model.keras")
    other = model(seed=2)
    other.set_weights(whole.get_weights())
    optimizer = ao.keras.wrap(ao.load(tmp_path / "model.keras"))
    other.compile(loss="mean_squared_error", optimizer=optimizer)
    np.testing.assert_array_equal(fit(other, 2), fit(whole, 2))
    assert int(optimizer.iterations) == 16


def test_state_that_waits_is_saved(tmp_path: Path) -> None:
    files = [tmp_path / f"{k}.weights.h5" for k in range(2)]
    whole, other, third = (model(make("Adam", lr=RATE), seed=k) for k in range(3))
    fit(whole, 2)
    whole.save_weights(files[0])
    other.load_weights(files[0])
    other.save_weights(files[1])
    third.load_weights(files[1])
    np.testing.assert_array_equal(fit(third, 2), fit(whole, 2))


UNTRAINED = [
    ("Adam", {}),
    ("Nadam", {"nonfinite": "skip", "gradient_accumulation_steps": 3}),
    ("DoG", {"reps_rel": 1e-3}),
    ("SGD", {"use_ema": True, "ema_momentum": 0.5}),
]


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize(("name", "hyper"), UNTRAINED, ids=[name for name, _ in UNTRAINED])
def test_an_untrained_model_is_loaded(
    name: str, hyper: dict[str, Any], ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / f"model{ending}"
    made = model(make(name, lr=RATE, **hyper))
    loaded = reloaded(made, file, caplog)
    assert float(loaded.optimizer.lr) == RATE and int(loaded.optimizer.iterations) == 0
    np.testing.assert_array_equal(fit(loaded, 2), fit(made, 2))
    equal(host(loaded.optimizer.variables), host(made.optimizer.variables))


@pytest.mark.parametrize(("name", "hyper"), UNTRAINED, ids=[name for name, _ in UNTRAINED])
def test_weights_of_an_untrained_model_let_a_trained_one_begin_anew(
    name: str, hyper: dict[str, Any], tmp_path: Path
) -> None:
    made, other = (model(make(name, lr=RATE, **hyper), seed=k) for k in range(2))
    made.save_weights(tmp_path / "model.weights.h5")
    x, y = data()
    for k in (0, 16):
        other.train_on_batch(x[k : k + 16], y[k : k + 16])
    other.load_weights(tmp_path / "model.weights.h5")
    for k in (32, 48, 0, 16):
        for each in (made, other):
            each.train_on_batch(x[k : k + 16], y[k : k + 16])
    equal(host(other.variables), host(made.variables))
    equal(host(other.optimizer.variables), host(made.optimizer.variables))


def test_weights_of_a_trained_model_without_slots_are_refused(tmp_path: Path) -> None:
    other, made = model(keras.optimizers.SGD(RATE)), model(make("Adam", lr=RATE))
    for each in (other, made):
        fit(each, 1)
    other.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match="found 2 arrays, wanted 10"):
        made.load_weights(tmp_path / "model.weights.h5")


def test_a_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.weights.h5"
    whole = model(make("Adam", lr=RATE))
    fit(whole, 1)
    whole.save_weights(file)
    other = model(make("SGD", lr=RATE))
    fit(other, 1)
    before = host(other.optimizer.variables)
    with pytest.raises(ValueError, match="found 10 arrays, wanted 6"):
        other.load_weights(file)
    equal(host(other.optimizer.variables), before)


def test_a_function_in_a_saved_model(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("tests")
    def halving(step: Any) -> Any:
        return RATE * 0.5 ** (step / 4)

    made = model(make("SGD", lr=halving))
    fit(made, 1)
    made.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(fit(loaded, 1), fit(made, 1))


UNEVEN = {"APOLLO", "AdamMini", "Adafactor", "CAME", "GaLore", "Kron", "MARS", "Muon", "NorMuon"}
UNEVEN |= {"SM3", "SOAP", "Shampoo"}
"""Those whose slots differ in number or shape, which their order in a file does not tell."""

READ: list[tuple[str, dict[str, Any]]] = [
    *((name, {"clipnorm": 1.0}) for name in NAMES),
    ("Adam", {"amsgrad": True, "nonfinite": "skip"}),
    ("Nadam", {"nonfinite": "skip", "gradient_accumulation_steps": 2}),
    ("RMSprop", {"momentum": 0.5, "centered": True}),
]


@pytest.mark.parametrize(("name", "hyper"), READ, ids=str)
def test_state_read_without_keras(name: str, hyper: dict[str, Any], tmp_path: Path) -> None:
    made = model(make(name, lr=RATE, **hyper))
    fit(made, 1)
    files = [tmp_path / f"model{ending}" for ending in (".keras", ".h5")]
    for file in files:
        made.save(file)
    if name in UNEVEN:
        for file in files:
            with pytest.raises(ValueError, match=rf"{name} of arrayoptim.keras.*load_model loads"):
                ao.load(file)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of gradient_accumulation_steps
        both = [ao.load(file) for file in files]
    steps = hyper.get("gradient_accumulation_steps", 1)
    params, optimizer = host(made.trainable_variables), made.optimizer
    grads = [np.cos(p) for p in params]
    for _ in range(steps):
        optimizer.apply(tensors(grads), made.trainable_variables)
    for loaded in both:
        assert type(loaded) is type(ao.get(name)) and loaded.preset is None
        assert (loaded.lr, loaded.iterations) == (RATE, 4 // steps)
        after = loaded.apply(grads, [p.copy() for p in params])
        close(after, host(made.trainable_variables), 1e-5)


def test_skipped_steps_are_read(tmp_path: Path) -> None:
    made = model(make("Yogi", nonfinite="skip"))
    fit(made, 1)
    grads = [np.full(v.shape, np.nan, "float32") for v in made.trainable_variables]
    made.optimizer.apply(tensors(grads), made.trainable_variables)
    made.save(tmp_path / "model.keras")
    loaded = ao.load(tmp_path / "model.keras")
    loaded.init(host(made.trainable_variables))
    assert (loaded.iterations, loaded.skipped) == (4, 1)


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_state_of_16_bits_read_without_keras(policy: str, tmp_path: Path) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        made = model(make("Yogi", lr=0.01))
        fit(made, 1)
        made.save(tmp_path / "model.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    found = read(tmp_path / "model.keras")
    extra = ["master"] if policy == "bfloat16" else []
    assert list(found.slots) == ["momentum", "velocity", *extra]
    wanted = [tuple(v.shape) for v in made.trainable_variables]
    assert all([x.shape for x in column] == wanted for column in found.slots.values())


def test_groups_with_other_slots_are_not_guessed_at(tmp_path: Path) -> None:
    made = model(make("Adam", groups=[ao.group("*/bias", optimizer="sgd")]))
    fit(made, 1)
    made.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"Adam of arrayoptim\.keras, whose slots are not all"):
        ao.load(tmp_path / "model.keras")
