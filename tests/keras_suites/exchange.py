"""Moving the state of Keras's own optimizers into this library's, and back; see `test_keras`."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest

import arrayoptim as ao
from golden_peers.parity import KERAS3, SINGLE
from keras_helpers import BACKEND, SHAPES, draw, host, tensors

if BACKEND == "jax":
    import jax

    jax.config.update("jax_enable_x64", True)

PATHS = ["z/kernel", "z/bias", "a/scale", "a/gain"]
"""Keras's order, which is not that of the alphabet."""

CASES = [row for row in KERAS3 if row[0] != "SGD" or "momentum" in row[1]]
if BACKEND != "jax":  # where variables have memory Keras reads that slot after it has written it
    CASES = [row for row in CASES if row[0] != "ScheduleFreeAdamW"]
CASES += [
    ("Adafactor", {"learning_rate": 0.1, "relative_step": False}, "Adafactor", {}),
    ("Muon", {"learning_rate": 0.1, "weight_decay": 0.5, "exclude_layers": ["x"]}, "Muon", {}),
]


def native(name: str, values: list[np.ndarray], **given: Any) -> tuple[list[Any], Any]:
    """Return variables and an optimizer of Keras for them."""
    held = [keras.Variable(value, dtype="float64") for value in values]
    optimizer = getattr(keras.optimizers, name)(**given)
    if BACKEND == "tensorflow":  # where Keras casts Python's numbers by way of float32
        config = optimizer.get_config().items()
        single = {k: float(np.float32(v)) if isinstance(v, float) else v for k, v in config}
        optimizer = type(optimizer).from_config(single)
    optimizer.build(held)
    return held, optimizer


def by_keras(held: list[Any], optimizer: Any, steps: range) -> list[np.ndarray]:
    """Step Keras's optimizer."""
    for step in steps:
        optimizer.apply(tensors(draw(step, "float64"), "float64"), held)
    return host(held)


def tree(values: list[Any]) -> dict[str, Any]:
    """Return parameters of this library, in Keras's order."""
    found: dict[str, Any] = {}
    for path, value in zip(PATHS, values, strict=True):
        layer, name = path.split("/")
        found.setdefault(layer, {})[name] = value
    return found


def by_ours(opt: Any, params: Any, steps: range) -> list[np.ndarray]:
    """Step an optimizer of this library."""
    for step in steps:
        params = opt.apply(tree(draw(step, "float64")), params)
    return [params[path.split("/")[0]][path.split("/")[1]] for path in PATHS]


@pytest.fixture(autouse=True)
def _double() -> Any:
    """Let Keras compute its coefficients in float64."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


@pytest.mark.parametrize(("theirs", "given", "ours", "words"), CASES)
def test_there_and_back(theirs: str, given: Any, ours: str, words: Any) -> None:
    """Five steps with Keras and five here are ten with Keras, and so are five more back there."""
    del words  # they come with the state
    held, optimizer = native(theirs, draw(99, "float64"), **given)
    moved = by_keras(held, optimizer, range(5))
    opt = type(ao.get(ours))()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ao.keras.load_state(opt, optimizer, tree([np.array(x) for x in moved]))
    assert opt.iterations == 5
    moved = by_ours(opt, tree([np.array(x) for x in moved]), range(5, 10))
    # Keras has a factor in float32, on TensorFlow also the 0.96 that stands in its Nadam.
    single = (theirs, "keras3") in SINGLE or (theirs, BACKEND) == ("Nadam", "tensorflow")
    close(moved, by_keras(held, optimizer, range(5, 10)), 1e-6 if single else 1e-12)
    back, again = native(theirs, moved, **{**given, "learning_rate": 0.5})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ao.keras.export_state(opt, again, tree(moved))
    assert int(again.iterations) == 10
    wanted = by_keras(held, optimizer, range(10, 15))
    close(by_keras(back, again, range(10, 15)), wanted, 1e-6 if single else 1e-12)


def close(found: list[np.ndarray], wanted: list[np.ndarray], bound: float) -> None:
    """Assert that they are the same course."""
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound)


def test_another_formula_is_said() -> None:
    """Where the hyperparameters stay, and the preset with them, a warning names it."""
    _, optimizer = native("RMSprop", draw(99, "float64"))
    for preset, words in ((None, 'preset="keras3" continues exactly'), ("keras3", "")):
        opt = ao.RMSprop(preset=preset)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            params = tree(draw(99, "float64"))
            ao.keras.load_state(opt, optimizer, params, hyperparameters=False)
        said = [str(w.message) for w in caught if w.category is UserWarning]
        assert words in " ".join(said)
        assert bool(said) == bool(words)
        assert opt.preset == preset


def test_sgd_without_momentum() -> None:
    """Keras keeps no slot; the one here is zero, as it is there."""
    held, optimizer = native("SGD", draw(99, "float64"))
    moved = by_keras(held, optimizer, range(2))
    opt = ao.SGD(lr=1.0)
    ao.keras.load_state(opt, optimizer, tree(moved))
    assert (opt.iterations, opt.lr) == (2, pytest.approx(0.01))
    assert not any(np.any(x) for x in opt.get_weights()[1:])
    ao.keras.export_state(opt, optimizer, tree(moved))


def test_what_is_refused() -> None:
    """It is said, with what was found, and nothing has changed."""
    params = tree(draw(99, "float64"))
    _, adam = native("Adam", draw(99, "float64"))
    opt = ao.SGD()
    for given, kind, words in (
        (adam, ValueError, "found Keras's Adam, wanted SGD"),
        (keras.optimizers.SGD(), ValueError, "has no state yet; call its build"),
        (ao.keras.SGD(), TypeError, r"arrayoptim.*SGD, wanted one of Keras's own"),
        ("sgd", TypeError, "found str, wanted one of Keras's own"),
    ):
        for change in (ao.keras.load_state, ao.keras.export_state):
            with pytest.raises(kind, match=words):
                change(opt, given, params)
    with pytest.raises(TypeError, match="wanted an optimizer of this library"):
        ao.keras.load_state(adam, adam, params)
    opt = ao.Adam()
    with pytest.raises(ValueError, match="momentum of 4 variables, wanted 2: "):
        ao.keras.load_state(opt, adam, params["z"])
    assert not opt.built
    opt.init(params)
    _, other = native("Adam", draw(99, "float64")[::-1])
    with pytest.raises(ValueError, match=r"Keras's Adam: .*misshapen"):
        ao.keras.load_state(opt, other, params)
    with pytest.raises(ValueError, match=r"found shape \(3, 2\), wanted \(\)"):
        ao.keras.export_state(opt, other, params)
    _, other = native("Adam", draw(99, "float64"), amsgrad=True)
    with pytest.raises(ValueError, match="found velocity_hat of 4 variables, wanted momentum"):
        ao.keras.export_state(opt, other, params)
    assert len(SHAPES) == 4


def test_a_mean_of_unequal_weights() -> None:
    """Keras's follow from the count of steps alone."""
    params = tree(draw(99, "float64"))
    opt = ao.ScheduleFreeAdamW(lr=0.1)
    by_ours(opt, params, range(2))
    _, optimizer = native("ScheduleFreeAdamW", draw(99, "float64"))
    with pytest.raises(ValueError, match=r"sum of weights .* after 2 steps, wanted 2"):
        ao.keras.export_state(opt, optimizer, params)
