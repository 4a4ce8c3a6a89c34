"""Numbers at which a formula degenerates: taken, and computed, where Keras takes them."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest

import arrayoptim as ao
from keras_helpers import RATE, draw, host, tensors, variables

TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 1.0}),
    ("SGD", {"learning_rate": -RATE}),
    ("SGD", {"weight_decay": -0.5}),
    ("SGD", {"clipnorm": -1.0}),
    ("SGD", {"clipvalue": -1.0}),
    ("SGD", {"global_clipnorm": 0.0}),
    ("Adam", {"beta_1": 1.0}),
    ("Adam", {"beta_2": 1.0}),
    ("Adam", {"beta_2": 1}),
    ("Adam", {"beta_1": -0.5, "beta_2": -0.5}),
    ("Adam", {"beta_2": 1.5}),
    ("Adam", {"epsilon": 0.0}),
    ("Adam", {"epsilon": -0.5}),
    ("AdamW", {"beta_2": 1.0, "weight_decay": 0.0}),
    ("Adamax", {"beta_1": 1.0}),
    ("Adadelta", {"rho": 1.5}),
    ("Adagrad", {"initial_accumulator_value": -1.0}),
    ("Lion", {"beta_1": 1.0, "beta_2": 1.5}),
    ("Nadam", {"beta_2": 1.0}),
    ("RMSprop", {"rho": 1.5}),
    ("RMSprop", {"momentum": -0.5}),
]

REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("AdamW", {"weight_decay": None}),
    ("Ftrl", {"learning_rate_power": 0.5}),
    ("Ftrl", {"initial_accumulator_value": -0.5}),
    ("Ftrl", {"l1_regularization_strength": -0.5}),
    ("Ftrl", {"l2_regularization_strength": -0.5}),
    ("Ftrl", {"l2_shrinkage_regularization_strength": -0.5}),
    ("Lion", {"beta_1": -0.5}),
    ("SGD", {"momentum": 1.5}),
    ("SGD", {"momentum": -0.5}),
    ("SGD", {"momentum": "0.5"}),
    ("SGD", {"gradient_accumulation_steps": 1}),
    ("SGD", {"use_ema": True, "ema_momentum": 1.5}),
    ("Adam", {"learning_rate": "0.5"}),
]


def trained(optimizer: Any) -> np.ndarray:
    """Return variables after five steps, in which some gradients are 0."""
    values = variables()
    for k in range(5):
        grads = [g * (k % 3 > 0 or g.ndim > 1) for g in draw(k + 1)]
        optimizer.apply(tensors(grads, "float32"), values)
    return np.concatenate([v.ravel() for v in host(values)])


@pytest.mark.parametrize(("which", "settings"), TAKEN, ids=str)
def test_taken(which: str, settings: dict[str, Any]) -> None:
    """The numbers are Keras's, infinite ones and NaN too."""
    settings = {"learning_rate": RATE, **settings}
    wanted = trained(getattr(keras.optimizers, which)(**settings))
    found = trained(getattr(ao.keras, which)(**settings, preset="keras3"))
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=1e-6)


def test_without_a_preset() -> None:
    """Keras 2 took any number."""
    optimizer = ao.keras.Adam(lr=RATE, beta_2=1.0)
    np.testing.assert_array_equal(trained(optimizer), np.concatenate([*map(np.ravel, draw(0))]))
    assert type(optimizer).from_config(optimizer.get_config()).beta_2 == 1.0
    optimizer.beta_1 = 1.0
    assert optimizer.beta_1 == 1.0


@pytest.mark.parametrize(("which", "settings"), REFUSED, ids=str)
def test_refused(which: str, settings: dict[str, Any]) -> None:
    """The error is caught as Keras's is, and has Keras's words."""
    with pytest.raises(ValueError, match=r".") as theirs:
        getattr(keras.optimizers, which)(**settings)
    words = f"^{re.escape(str(theirs.value))}$"
    with pytest.raises(ValueError, match=words):
        getattr(ao.keras, which)(**settings, preset="keras3")
    with pytest.raises(ValueError, match=words):
        getattr(ao.keras, which)(**settings)


def test_classes_that_keras_lacks() -> None:
    """Their intervals are those of this library."""
    with pytest.raises(ValueError, match=r"Yogi.beta_2 must be a number in \[0, 1\)"):
        ao.keras.Yogi(beta_2=1.0)
    with pytest.raises(ValueError, match=r"Adam.agc must be"):
        ao.keras.Adam(agc=-1.0)
