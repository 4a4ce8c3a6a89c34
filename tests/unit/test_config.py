"""Configurations and names: those of Keras 2, of Keras 3, and our own."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from golden_cases import GOLDEN
from golden_files import records
from optimizers_under_test import NAMES, cls_of, make, numeric

KERAS = [case for case in GOLDEN.index["cases"] if case["library"] == "keras"]


def test_config_survives_json(name: str, kwargs: dict[str, Any]) -> None:
    """It is plain data, and makes the same optimizer again."""
    opt = make(name, **kwargs, clipnorm=1.0, nonfinite="skip", name="mine")
    config = json.loads(json.dumps(opt.get_config()))
    again = cls_of(name).from_config(config)
    assert again.get_config() == opt.get_config() == config
    assert repr(again) == repr(opt)
    scope = {public: getattr(ao, public) for public in ao.__all__}
    assert eval(repr(opt), scope).get_config() == config


def test_every_keras_2_config_is_read() -> None:
    """All recorded ones, initial and final, and none of its values is lost."""
    for case in KERAS:
        for key in ("config_initial", "config_final"):
            config = case[key]
            before = copy.deepcopy(config)
            opt = ao.deserialize({"class_name": case["class_name"], "config": config})
            assert config == before
            found = opt.get_config()
            assert {k: found.get(k) for k in config} == config


def test_our_config_has_keras_2_names() -> None:
    """The keys that Keras 2 wrote for the same arguments, where these reach our keys."""
    for case in KERAS:
        opt = make(case["class_name"], **case["kwargs"])
        assert set(opt.get_config()) == set(case["config_initial"]), case["id"]


@pytest.mark.parametrize("entry", records("keras3"), ids=lambda entry: entry["file_h5"])
def test_keras_3_configs_are_read(entry: dict[str, Any]) -> None:
    """Everything that they ask for is honoured, with nothing to warn of."""
    config = entry["get_config"]
    opt = ao.deserialize({"class_name": entry["class_name"], "config": config})
    assert opt.lr == config["learning_rate"]
    assert opt.clipnorm == config["global_clipnorm"]
    assert opt.clipnorm_per_tensor == config.get("clipnorm")
    assert (opt.preset == "keras3") == (entry["class_name"] in {"Adagrad", "Nadam", "RMSprop"})
    own = {"beta_1", "beta_2", "rho", "epsilon", "momentum", "nesterov"}
    for key in set(config) & (own | {"initial_accumulator_value"}):
        assert getattr(opt, key) == config[key]


def test_later_keras_2_configs_are_read() -> None:
    """Epsilon by default, and what says nothing about numbers."""
    old = {"learning_rate": 0.25, "epsilon": None, "is_legacy_optimizer": True}
    found = ao.Adagrad.from_config(old)
    assert (found.lr, found.epsilon, found.preset) == (0.25, 1e-7, None)
    # What tf.keras 2.15 writes.
    new = {"name": "RMSprop", "weight_decay": None, "clipnorm": 0.5, "global_clipnorm": None}
    new |= {"clipvalue": None, "use_ema": False, "ema_momentum": 0.99, "jit_compile": True}
    new |= {"ema_overwrite_frequency": 100, "is_legacy_optimizer": False, "learning_rate": 0.25}
    new |= {"rho": 0.5, "momentum": 0.0, "epsilon": 1e-7, "centered": False}
    opt = ao.deserialize({"class_name": "RMSprop", "config": new})
    assert (opt.lr, opt.rho, opt.clipnorm_per_tensor, opt.clipnorm) == (0.25, 0.5, 0.5, None)
    assert (opt.preset, opt.epsilon, opt.ema_momentum) == ("keras3", 1e-7, None)


@pytest.mark.parametrize("change", [str, str.lower, str.upper, str.swapcase])
def test_names_in_any_case(name: str, change: Any) -> None:
    """As Keras has it."""
    assert type(ao.get(change(name))) is cls_of(name)


def test_serialize(name: str) -> None:
    """The dict makes the optimizer again, in either way, and stays as it is."""
    opt = make(name, lr=0.25)
    made = ao.serialize(opt)
    assert made == {"class_name": name, "config": opt.get_config()}
    before = copy.deepcopy(made)
    for again in (ao.deserialize(made), ao.get(made)):
        assert type(again) is cls_of(name)
        assert again.get_config() == opt.get_config()
    assert made == before
    assert ao.get(opt) is opt


@pytest.mark.parametrize("bad", ["adamm", None, 3, b"adam", dict, {}, {"class_name": "Adam"}])
def test_what_names_no_optimizer(bad: Any) -> None:
    """A ValueError that says what was found."""
    with pytest.raises(ValueError, match=r"found|unknown"):
        ao.get(bad)


def test_the_nearest_name() -> None:
    """A misspelt one is answered with the nearest."""
    for name in NAMES:
        with pytest.raises(ValueError, match=f"'{name}'"):
            ao.get(name[0] + name)
    for word, name in {
        "adma": "Adam",
        "adamm": "Adam",
        "adamx": "Adamax",
        "sdg": "SGD",
        "lino": "Lion",
    }.items():
        with pytest.raises(ValueError, match=f"did you mean '{name}'"):
            ao.get(word)


def test_classes(name: str) -> None:
    """They are made with their defaults, registered or not."""

    class Mine(cls_of(name)):  # type: ignore[misc]
        pass

    for cls in (cls_of(name), Mine):
        made = ao.get(cls)
        assert type(made) is cls
        assert made.get_config() == ao.get(name).get_config()
    with pytest.raises(TypeError, match=r"SAM\.inner must be an optimizer"):
        ao.get(ao.SAM)


def test_unknown_key_in_a_config(name: str) -> None:
    """It is not dropped in silence."""
    with pytest.raises(TypeError, match="momentun"):
        cls_of(name).from_config({"lr": 0.1, "momentun": 0.9})


def test_custom_objects() -> None:
    """Classes of the caller's own come first, and are not registered by it."""

    class Mine(ao.SGD):
        pass

    assert type(ao.get("Mine", {"Mine": Mine})) is Mine
    assert type(ao.get("SGD", {"SGD": Mine})) is Mine
    assert "Mine" not in ao.names()


def test_learning_rate_is_lr(name: str) -> None:
    """Both words read, write and construct; both at once is an error."""
    opt = make(name, learning_rate=0.25)
    assert (opt.lr, opt.learning_rate) == (0.25, 0.25)
    opt.learning_rate = 0.5
    assert opt.lr == 0.5
    with pytest.raises(TypeError, match="lr"):
        make(name, lr=0.1, learning_rate=0.2)
    assert cls_of(name)(0.125).lr == 0.125


def test_hyperparameters_take_hold_at_the_next_step(name: str) -> None:
    """A value that is set is the one that the next step uses; it outlives a save of the config."""
    for key in numeric(name):
        hyper = cls_of(name).hyperparameters[key]
        value = next(
            v
            for v in (0.5, 3.0, 4.5, -0.5)
            if v in hyper.interval and (v == 3 or not hyper.integer)
        )
        opt, other = make(name), make(name, **{key: value})
        setattr(opt, key, value)
        assert getattr(opt, key) == value
        assert opt.get_config() == other.get_config()
        one, two = np.linspace(-1, 1, 5), np.linspace(-1, 1, 5)
        grad = np.array([3.0, -0.1, 0.0, 0.5, -7.0])
        with ao.engine("array"):  # some values ask for a loop of their own, slow to compile
            for _ in range(2):
                np.testing.assert_array_equal(opt.apply(grad, one), other.apply(grad, two))


def test_schedules(name: str) -> None:
    """A function of the step number, read anew at each step."""
    seen: list[int] = []

    def schedule(step: int) -> float:
        seen.append(step)
        return 0.5 / (1 + step)

    opt, other = make(name, lr=schedule), make(name)
    one, two = np.ones(3), np.ones(3)
    for step in range(4):
        other.lr = 0.5 / (1 + step)
        one, two = opt.apply(np.full(3, 0.3), one), other.apply(np.full(3, 0.3), two)
        np.testing.assert_array_equal(one, two)
    assert sorted(set(seen)) == [0, 1, 2, 3]
    assert opt.get_config()["lr"] is schedule
