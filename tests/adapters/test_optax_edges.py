"""Numbers at which a formula degenerates: taken, and computed, where optax takes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.needs("jax")

TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("sgd", {"learning_rate": -0.5}),
    ("sgd", {"momentum": 1.5}),
    ("sgd", {"momentum": -0.5, "nesterov": True}),
    ("adam", {"b1": 0.0}),
    ("adam", {"b1": 1.0}),
    ("adam", {"b2": 1.0}),
    ("adam", {"b1": 1.5}),
    ("adam", {"b1": -0.5, "b2": -0.5}),
    ("adam", {"b1": True}),
    ("adam", {"eps": -0.5}),
    ("adam", {"eps": 0.0}),
    ("adam", {"learning_rate": math.nan}),
    ("adamw", {"weight_decay": -0.5}),
    ("adamw", {"b2": 1.0}),
    ("adamax", {"b2": 1.5}),
    ("adabelief", {"b1": 1.0}),
    ("adadelta", {"rho": 1.5}),
    ("adagrad", {"initial_accumulator_value": 0.0, "eps": 0.0}),
    ("adan", {"b3": 1.0}),
    ("amsgrad", {"b2": 1.0}),
    ("lamb", {"b1": 1.0}),
    ("lars", {"momentum": 1.5}),
    ("lion", {"b1": 1.0, "b2": 1.5}),
    ("nadam", {"b1": 1.0}),
    ("radam", {"b1": 1.0}),
    ("rmsprop", {"decay": 1.5}),
    ("rmsprop", {"decay": -0.5, "momentum": -0.5}),
    ("signum", {"beta": 1.5}),
    ("yogi", {"b2": 1.0}),
]


def trained(module: Any, which: str, settings: dict[str, Any]) -> np.ndarray:
    """Return parameters after five steps in float64, in which some gradients are 0."""
    import jax
    import jax.numpy as jnp
    import optax

    draw = np.random.default_rng(0)
    with jax.enable_x64(True):
        params = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3), "b": jnp.ones(3)}
        optimizer = getattr(module, which)(**{"learning_rate": 0.1, **settings})
        state, update = optimizer.init(params), jax.jit(optimizer.update)
        for k in range(5):
            grads = {"w": draw.normal(size=(4, 3)), "b": draw.normal(size=3) * (k % 3 > 0)}
            updates, state = update(jax.tree.map(jnp.asarray, grads), state, params)
            params = optax.apply_updates(params, updates)
        return np.concatenate([np.ravel(params["w"]), np.asarray(params["b"])])


QUICK = ({"b2": 1.0}, {"learning_rate": -0.5})
ROWS = [
    pytest.param(
        *row, marks=() if row[0] in {"adam", "sgd"} and row[1] in QUICK else pytest.mark.slow
    )
    for row in TAKEN
]


@pytest.mark.parametrize(("which", "settings"), ROWS, ids=str)
def test_taken(which: str, settings: dict[str, Any]) -> None:
    """The numbers are optax's, infinite ones and NaN too."""
    import optax

    import arrayoptim as ao

    wanted = trained(optax, which, settings)
    found = trained(ao.optax, which, settings)
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)


def test_our_own_classes() -> None:
    """Their intervals are those of this library."""
    import arrayoptim as ao

    with pytest.raises(ValueError, match=r"Adam.beta_2 must be a number in \[0, 1\), got 1.0"):
        ao.optax.Adam(b2=1.0)
