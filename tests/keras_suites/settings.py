"""Names, configurations and bad input of the Keras classes on one backend; see `test_keras`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.arrays.trees import flatten
from keras_helpers import (
    PATHS,
    RATE,
    close,
    draw,
    equal,
    host,
    make,
    reference,
    tensors,
    train,
    variables,
)
from optimizers_under_test import CASES, NAMES


def test_config_survives(name: str, kwargs: dict[str, Any]) -> None:
    hyper = {"lr": RATE, "clipnorm": 1.0, "exclude": ("a", "b"), "use_ema": True, **kwargs}
    optimizer = make(name, **hyper)
    config = keras.optimizers.serialize(optimizer)
    again = keras.optimizers.deserialize(json.loads(json.dumps(config)))
    assert type(again) is type(optimizer) and again.get_config() == optimizer.get_config()
    assert again.get_config()["learning_rate"] == RATE and again.use_ema
    for key in kwargs:
        assert getattr(again, key) == getattr(optimizer, key)


def test_names() -> None:
    for name in NAMES:
        cls = getattr(ao.keras, name)
        assert type(ao.keras.get(name.lower())) is type(keras.optimizers.get(f"arrayoptim>{name}"))
        assert isinstance(cls(), keras.optimizers.Optimizer) and name in dir(ao.keras)
    assert {name for name, _ in CASES} == set(NAMES)
    optimizer = ao.keras.SGD(0.5, 0.25, 0.125, True)
    assert ao.keras.get(optimizer) is optimizer is keras.optimizers.get(optimizer)
    assert (optimizer.momentum, optimizer.decay, optimizer.nesterov) == (0.25, 0.125, True)


def test_wrap() -> None:
    optimizer = ao.Adam(lr=RATE, beta_1=0.5, ema_momentum=0.75, groups=[ao.group("bias", lr=0.5)])
    wrapped = ao.keras.wrap(optimizer)
    assert wrapped.beta_1 == 0.5 and wrapped.use_ema and wrapped.ema_momentum == 0.75
    values = variables()
    train(wrapped, values, range(3))
    wanted = reference(ao.Adam(lr=RATE, beta_1=0.5, groups=optimizer.groups), range(3))
    close(host(values), [wanted[path] for path in PATHS])
    assert not optimizer.built


TWIGS = ["b/w", "a/w", "b/v", "a/v"]
"""Paths of variables of one shape, in another order than that of the tree that they are."""


def rows(seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(4, 2)).astype("float32"))


def twigs(arrays: list[np.ndarray]) -> list[Any]:
    found = []
    for path, value in zip(TWIGS, arrays, strict=True):
        scope, name = path.split("/")
        with keras.name_scope(scope):
            found.append(keras.Variable(value, name=name))
    assert [v.path for v in found] == TWIGS
    return found


def as_list(arrays: list[np.ndarray]) -> Any:
    return arrays


def as_flat(arrays: list[np.ndarray]) -> Any:
    return dict(zip(TWIGS, arrays, strict=True))


def as_nested(arrays: list[np.ndarray]) -> Any:
    bw, aw, bv, av = arrays
    return {"a": {"w": aw, "v": av}, "b": {"w": bw, "v": bv}}


@pytest.mark.parametrize("arranged", [as_list, as_flat, as_nested])
@pytest.mark.parametrize("held", ["built", "loaded"])
def test_wrap_carries_the_state_over(held: str, arranged: Any, tmp_path: Path) -> None:
    own, arrays = ao.Nadam(lr=RATE, ema_momentum=0.75, nonfinite="skip"), rows(0)
    for step in range(1, 4):
        own.apply(arranged(rows(step)), arranged(arrays))
    own.save_weights(tmp_path / "nadam.h5")
    wrapped = ao.keras.get(own if held == "built" else ao.load(tmp_path / "nadam.h5"))
    assert int(wrapped.iterations) == 3
    goes_on(wrapped, own, arranged, arrays)


def test_wrap_carries_over_what_set_weights_was_given() -> None:
    own, arrays = ao.Nadam(lr=RATE, ema_momentum=0.75), rows(0)
    for step in range(1, 4):
        own.apply(rows(step), arrays)
    waiting = ao.Nadam(lr=RATE, ema_momentum=0.75)
    waiting.set_weights(own.get_weights())
    goes_on(ao.keras.wrap(waiting), own, as_list, arrays)


def goes_on(wrapped: Any, own: Any, arranged: Any, arrays: list[np.ndarray]) -> None:
    values = twigs(arrays)
    for step in range(4, 7):
        wrapped.apply(tensors(rows(step)), values)
        own.apply(arranged(rows(step)), arranged(arrays))
    assert int(wrapped.iterations) == own.iterations == 6
    close(host(values), arrays)
    found = arranged(host(wrapped._model_variables_moving_average))
    close(flatten(found)[0], flatten(own.averages(arranged(arrays)))[0])


def test_wrap_carries_a_count_over() -> None:
    own = ao.Adam(lr=RATE, ema_momentum=0.75)
    own.iterations = 100
    wrapped, (value,) = ao.keras.wrap(own), twigs(rows(0))[:1]
    assert int(wrapped.iterations) == 100
    x, g = rows(0)[0], rows(1)[0]
    wrapped.apply(tensors([g]), [value])
    own.apply(g, x)
    assert int(wrapped.iterations) == 101
    close(host([value, *wrapped._model_variables_moving_average]), [x, own.averages(x)])


def test_wrap_with_state_of_other_parameters() -> None:
    own, values = ao.Adam(lr=RATE), variables()
    own.apply({"x": np.ones(2)}, {"x": np.ones(2)})
    wrapped, before = ao.keras.wrap(own), host(values)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"state of Adam.*momentum of bias.*momentum of x"):
            wrapped.build(values)
    assert not wrapped.built and len(wrapped.variables) == 2
    with pytest.raises(ValueError, match=r"build.* before saving it"):
        wrapped.save_own_variables({})
    wrapped.set_weights([np.array(0), np.array(RATE)])
    train(wrapped, values, range(1))
    train(make("Adam", lr=RATE), fresh := variables(), range(1))
    equal(host(values), host(fresh))
    assert not all(np.array_equal(a, b) for a, b in zip(before, host(values), strict=True))


def test_an_optimizer_of_ones_own() -> None:
    class Half(ao.SGD):
        def coefficients(self, h: Any, it: Any, scalars: Any, xp: Any) -> dict[str, Any]:
            found = super().coefficients(h, it, scalars, xp)
            return found | {name: 0.5 * found[name] for name in ("lr", "take")}

    values = variables()
    train(ao.keras.wrap(Half(lr=2 * RATE)), values, range(3))
    wanted = reference(ao.SGD(lr=RATE), range(3))
    close(host(values), [wanted[path] for path in PATHS])


def test_configurations_of_keras_are_read() -> None:
    config = keras.optimizers.Adam(RATE, beta_1=0.5, global_clipnorm=2.0, use_ema=True).get_config()
    optimizer = ao.keras.Adam.from_config(config)
    assert optimizer.beta_1 == 0.5 and optimizer.clipnorm == 2.0 and optimizer.use_ema
    config = keras.optimizers.Adam(clipnorm=1.0).get_config()
    assert ao.keras.Adam.from_config(config).clipnorm_per_tensor == 1.0
    config = keras.optimizers.Adam(loss_scale_factor=8.0, epsilon=1e-3).get_config()
    assert ao.keras.Adam.from_config(config).loss_scale_factor == 8.0
    config = keras.optimizers.RMSprop(epsilon=1e-3).get_config()
    assert ao.keras.RMSprop.from_config(config).preset == "keras3"
    found = ao.keras.Adam.from_config({"lr": RATE, "epsilon": None, "jit_compile": True})
    assert found.epsilon == 1e-7 and found.lr == RATE


def test_configurations_of_ours_are_no_keras_3(name: str) -> None:
    """However they come: whole, without what Keras says of the class, by its registered name."""
    optimizer = make(name, lr=RATE, clipnorm=1.0)
    whole = keras.optimizers.serialize(optimizer)
    inner = optimizer.get_config()
    unmarked = {key: value for key, value in inner.items() if key != "preset"}
    wanted = ao.get(name).get_config() | {"lr": RATE, "clipnorm": 1.0, "name": optimizer.name}
    wanted |= {"outputs": "last"} if "outputs" in type(ao.get(name)).hyperparameters else {}
    for found in (
        type(ao.get(name)).from_config(inner),
        ao.deserialize(whole),
        ao.deserialize({**whole, "config": unmarked}),
        ao.get({"class_name": f"arrayoptim>{name}", "config": unmarked}),
    ):
        assert found.get_config() == wanted
    assert ao.keras.get(whole).get_config() == inner
    again = type(optimizer).from_config(unmarked)
    assert again.get_config() == inner


def test_schedules_of_ours_in_configurations() -> None:
    """A schedule of this library comes out of Keras's form; another function stays refused."""
    lr = ao.schedules.CosineDecay(0.1, 20)
    whole = keras.saving.serialize_keras_object(make("Adam", lr=lr))
    found = ao.deserialize({"class_name": whole["registered_name"], "config": whole["config"]})
    assert found.get_config()["lr"] == ao.Adam(lr=lr).get_config()["lr"]
    other = keras.saving.serialize_keras_object(make("Adam", lr=keras.ops.sqrt))
    with pytest.raises(ValueError, match="schedule"):
        ao.deserialize({"class_name": "arrayoptim>Adam", "config": other["config"]})


def test_options_of_keras_in_our_configurations() -> None:
    config = make("SGD", use_ema=True, ema_momentum=0.5, loss_scale_factor=8.0).get_config()
    with pytest.warns(UserWarning, match=r"configuration: loss_scale_factor=8.0"):
        assert ao.SGD.from_config(config).ema_momentum == 0.5


def test_clipnorm_of_keras_3_means_the_same() -> None:
    mine, theirs = variables(), variables()
    other = keras.optimizers.SGD(learning_rate=1.0, clipnorm=0.5)
    train(ao.keras.SGD.from_config(other.get_config()), mine, range(3))
    train(other, theirs, range(3))
    close(host(mine), host(theirs), 1e-5)


def test_constraints_survive() -> None:
    groups = [ao.group("bias", constraint=ao.constraints.Box(-1.0, 1.0))]
    optimizer = make("SGD", constraint=ao.constraints.MaxNorm(2.0, axis=[0, 1]), groups=groups)
    config = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    again = keras.optimizers.deserialize(config)
    assert again.constraint == optimizer.constraint and again.get_config() == optimizer.get_config()


def test_misspelt_attributes_are_refused() -> None:
    class Mine(ao.keras.SGD):
        momentums: Any = None

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.momentums, self.tag, self._lrr, self.rates = 1, "a", 2, [0.5]

    optimizer = make("SGD", lr=RATE)
    names = {"momentm": "momentum", "lrr": "lr", "Lr": "lr", "learnin_rate": "learning_rate"}
    names |= {"clip_norm": "clipnorm", "use_emma": "use_ema"}
    for wrong, right in names.items():
        with pytest.raises(AttributeError, match=f"{wrong}' to set, did you mean '{right}'"):
            setattr(optimizer, wrong, 0.5)
        assert not hasattr(optimizer, wrong)
    mine = Mine(lr=RATE)
    assert (mine.momentums, mine.tag, float(mine.lr)) == (1, "a", RATE)
    optimizer.lr, optimizer.momentum, optimizer.use_ema = 0.5, 0.25, True
    assert (float(optimizer.lr), optimizer.momentum, optimizer.use_ema) == (0.5, 0.25, True)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"lr": -1.0}, ValueError, r"SGD.lr must be a number in \[0, inf\)"),
    ({"lr": "fast"}, TypeError, "SGD.lr must be a number"),
    ({"momentun": 0.5}, TypeError, "did you mean 'momentum'"),
    ({"momentum": lambda step: 0.5}, TypeError, "only the learning rate may be a schedule"),
    ({"clipnorm": 1.0, "global_clipnorm": 1.0}, ValueError, "wanted one of them"),
    ({"gradient_accumulation_steps": 1}, ValueError, "must be an integer >= 2"),
    ({"use_ema": True, "ema_momentum": 2.0}, ValueError, "must be in the range"),
]


@pytest.mark.parametrize(("kwargs", "error", "message"), BAD)
def test_bad_arguments(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make("SGD", **kwargs)


def test_bad_steps() -> None:
    optimizer, values = make("SGD", lr=0.5, momentum=0.5), variables()
    optimizer.build(values)
    before = host(values)
    with pytest.raises(ValueError, match="found shape"):
        optimizer.apply(tensors([g.reshape(1, -1) for g in draw(1)]), values)
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply(tensors(draw(1)), variables())
    with pytest.raises(ValueError, match="found 3 arrays, wanted"):
        optimizer.set_weights(host(optimizer.variables)[:3])
    with pytest.raises(ValueError, match="must be a number in"):
        optimizer.learning_rate = -0.5
    with pytest.raises(TypeError, match="wanted a number"):
        optimizer.momentum = lambda step: 0.5
    with pytest.raises(ValueError, match="matches none of"):
        make("SGD", exclude="nowhere").build(values)
    equal(host(values), before)
    assert float(optimizer.lr) == 0.5


def test_bad_identifiers() -> None:
    with pytest.raises(ValueError, match="did you mean 'Adam'"):
        ao.keras.get("adaam")
    with pytest.raises(ValueError, match="wanted an optimizer's name"):
        ao.keras.get(keras.optimizers.SGD())
    with pytest.raises(TypeError, match="wanted an optimizer of this library"):
        ao.keras.wrap("sgd")
    with pytest.raises(AttributeError, match="has no attribute 'Sgd'"):
        _ = ao.keras.Sgd


def test_several_replicas_are_refused() -> None:
    optimizer = make("SGD")
    optimizer.__dict__["_distribution_strategy"] = SimpleNamespace(num_replicas_in_sync=2)
    with pytest.raises(ValueError, match="strategy of 2 replicas"):
        optimizer.build(variables())
    assert not optimizer.built


def test_norms_where_the_step_is_not_compiled() -> None:
    """They are in `last_step`; where Keras compiles the step, they are refused."""
    if keras.backend.backend() != "torch":
        with pytest.raises(ValueError, match="returns no norms"):
            ao.keras.SGD(measure="gradient")
        return
    optimizer, v = ao.keras.SGD(0.5, measure="update"), keras.Variable([3.0, 4.0])
    optimizer.apply([keras.ops.convert_to_tensor([3.0, 4.0])], [v])
    (norm,) = optimizer.last_step.norms["update"].values()
    assert norm == pytest.approx(2.5)


def test_no_loss_is_judged() -> None:
    """Keras hands over none; the error says which way works."""
    with pytest.raises(ValueError, match=r"no loss\. skip_spikes judges the gradients"):
        ao.keras.SGD(0.1, skip_loss_spikes=6.0)


def test_spikes_are_skipped() -> None:
    """Neither variable nor count of steps moves, on every backend of Keras."""
    optimizer, v = ao.keras.SGD(1.0, skip_spikes=6.0, spike_window=4), keras.Variable([0.0])
    for g in (1.0, 1.5, 0.5, 90.0, 1.0):
        optimizer.apply([keras.ops.convert_to_tensor([g])], [v])
    assert float(v.numpy()[0] if hasattr(v, "numpy") else v[0]) == -4.0
    assert int(optimizer.iterations) == 4
