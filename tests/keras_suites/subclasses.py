"""Subclasses of the Keras classes, and models whose shapes come late, on one backend of Keras."""

from __future__ import annotations

from typing import Any

import keras
import pytest

import arrayoptim as ao
from keras_helpers import RATE, close, data, fit, host, make, model, tensors, train, variables

ALL = [
    ("SGD", {"momentum": 0.5, "clipnorm": 1.0}),
    ("Nadam", {"clipnorm": 1.0}),
    ("LAMB", {"clipvalue": 0.5, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("kind", "kwargs"), ALL)
def test_steps_of_each_variable_are_the_step_of_all(kind: str, kwargs: dict[str, Any]) -> None:
    class Each(getattr(ao.keras, kind)):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient, variable, learning_rate)

    mine, wanted = variables(), variables()
    train(Each(lr=RATE, **kwargs), mine, range(4))
    train(make(kind, lr=RATE, **kwargs), wanted, range(4))
    close(host(mine), host(wanted))


def test_an_override_of_update_step_is_called() -> None:
    class Slower(ao.keras.Adam):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            share = 0.0 if "bias" in variable.path else 0.5
            super().update_step(gradient, variable, learning_rate * share)

    made, whole = model(Slower(lr=2 * RATE)), model(make("Adam", lr=RATE))
    before = host(made.trainable_variables)
    fit(made, 1)
    fit(whole, 1)
    after = host(made.trainable_variables)
    close(after[1], before[1])
    assert abs(after[0] - before[0]).max() > 0.01


def test_other_overrides_are_called() -> None:
    said = []

    class Told(ao.keras.SGD):  # type: ignore[misc]
        def build(self, variables: Any) -> None:
            said.append("build")
            super().build(variables)

        def apply(self, grads: Any, trainable_variables: Any = None) -> None:
            said.append("apply")
            super().apply([2.0 * g for g in grads], trainable_variables)

        def _clip_gradients(self, grads: Any) -> Any:
            said.append("clip")
            return grads

    mine, wanted = variables(), variables()
    train(Told(lr=RATE), mine, range(1))
    train(make("SGD", lr=2 * RATE), wanted, range(1))
    assert {"build", "apply", "clip"} <= set(said)
    close(host(mine), host(wanted))


NEVER = {
    "assign_add": "override update_step|Override update_step",
    "add_variable_from_reference": "Override build",
    "coefficients": r"Subclass arrayoptim\.Adam",
    "get_updates": r"update_step\(gradient",
    "_resource_apply_dense": r"update_step\(gradient",
}


@pytest.mark.parametrize("hook", NEVER)
def test_what_would_never_be_called_is_refused(hook: str) -> None:
    with pytest.raises(TypeError, match=rf"Mine\.{hook} would never be called: .*({NEVER[hook]})"):
        type("Mine", (ao.keras.Adam,), {hook: lambda self, *args: None})
    other = type("Mixed", (), {hook: lambda self, *args: None})
    with pytest.raises(TypeError, match=hook):
        type("Mine", (other, ao.keras.Adam), {})


@pytest.mark.parametrize(
    ("kind", "kwargs", "words"),
    [("Prodigy", {}, "needs totals"), ("Adam", {"nonfinite": "skip"}, "nonfinite")],
)
def test_what_is_of_all_variables(kind: str, kwargs: dict[str, Any], words: str) -> None:
    own = {"update_step": lambda self, *args: None}
    with pytest.raises(TypeError, match=words):
        type("Each", (getattr(ao.keras, kind),), own)(**kwargs)


class Late(keras.Model):  # type: ignore[misc]
    """A model whose layers learn their shapes from the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = [keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)]

    def call(self, x: Any) -> Any:
        for layer in self.inner:
            x = layer(x)
        return x


def late(optimizer: Any, kind: str) -> Any:
    keras.utils.set_random_seed(1)
    if kind == "subclassed":
        made = Late()
    else:
        made = keras.Sequential([keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)])
    made.compile(loss="mean_squared_error", optimizer=optimizer)
    return made


@pytest.mark.parametrize("kind", ["sequential", "subclassed", "on a batch"])
@pytest.mark.parametrize(
    ("rule", "options"),
    [("Adam", {"use_ema": True, "ema_momentum": 0.5}), ("ScheduleFreeSGD", {})],
)
def test_models_whose_shapes_come_late(rule: str, options: dict[str, Any], kind: str) -> None:
    made, wanted = late(make(rule, lr=RATE, **options), kind), model(make(rule, lr=RATE, **options))
    if kind == "on a batch":
        x, y = data()
        for each in (made, wanted):
            for k in (0, 16):
                each.train_on_batch(x[k : k + 16], y[k : k + 16])
    else:
        close(fit(made, 2), fit(wanted, 2), 1e-5)
    close(host(made.trainable_variables), host(wanted.trainable_variables), 1e-5)


def test_every_rule_takes_shapes_that_come_late(name: str) -> None:
    made, wanted = late(make(name, lr=0.01), "sequential"), model(make(name, lr=0.01))
    fit(made, 1)
    fit(wanted, 1)
    close(host(made.trainable_variables), host(wanted.trainable_variables), 1e-4)
    assert int(made.optimizer.iterations) == 4


def test_built_by_hand_before_it_is_compiled() -> None:
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)]
    made = keras.Sequential(layers)
    made.build((None, 5))
    made.compile(loss="mean_squared_error", optimizer=make("Adam", lr=RATE))
    close(fit(made, 1), fit(model(make("Adam", lr=RATE)), 1), 1e-6)


def test_gradients_of_one_variable_by_itself() -> None:
    class Each(ao.keras.Adam):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient, variable, learning_rate)

    optimizer, values = Each(lr=RATE), variables()
    optimizer.build(values)
    before = host(values)
    optimizer.apply(tensors([before[1]]), [values[1]])
    after = host(values)
    close(after[0], before[0])
    assert abs(after[1] - before[1]).max() > 0
