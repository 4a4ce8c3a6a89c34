"""The same word in configurations of different generations of Keras."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import arrayoptim as ao

OLD = {"lr": 0.1, "momentum": 0.5, "decay": 0.0, "nesterov": False}
MIDDLE = {"name": "SGD", "learning_rate": 0.1, "momentum": 0.5, "decay": 0.0, "nesterov": False}
NEW = {
    "name": "SGD",
    "weight_decay": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "learning_rate": 0.1,
    "momentum": 0.5,
    "nesterov": False,
}
TF_NEW = NEW | {"jit_compile": True, "is_legacy_optimizer": False}
LATEST = NEW | {"loss_scale_factor": None, "gradient_accumulation_steps": None}
ALL, EACH = "clipnorm", "clipnorm_per_tensor"


def written(
    path: Path, version: str, class_name: str, config: dict[str, Any], arrays: dict[str, Any]
) -> Path:
    """Write a model file of some version."""
    with h5py.File(path / "model.h5", "w") as file:
        file.attrs["keras_version"] = version
        described = {"class_name": class_name, "config": config}
        file.attrs["training_config"] = json.dumps({"optimizer_config": described})
        group = file.create_group("optimizer_weights")
        group.attrs["weight_names"] = [name.encode() for name in arrays]
        for name, value in arrays.items():
            group[name] = value
    return path / "model.h5"


CLIPPED: list[tuple[dict[str, Any], str, dict[str, float | None]]] = [
    (OLD | {"clipnorm": 2.0}, "2.0.9", {ALL: 2.0, EACH: None}),
    (OLD | {"clipnorm": 2.0}, "1.2.2", {ALL: 2.0, EACH: None}),
    (OLD | {"clipnorm": 2.0}, "2.1.6-tf", {ALL: 2.0, EACH: None}),
    (OLD | {"clipnorm": 2.0}, "2.2.4-tf", {ALL: None, EACH: 2.0}),
    (MIDDLE | {"clipnorm": 2.0}, "2.10.0", {ALL: None, EACH: 2.0}),
    (MIDDLE | {"global_clipnorm": 2.0}, "2.4.0", {ALL: 2.0, EACH: None}),
    (TF_NEW | {"clipnorm": 2.0}, "2.15.0", {ALL: None, EACH: 2.0}),
    (TF_NEW | {"global_clipnorm": 2.0}, "2.15.0", {ALL: 2.0, EACH: None}),
    (TF_NEW | {"clipnorm": 2.0, "clipvalue": 1.0}, "2.15.0", {EACH: 2.0, "clipvalue": None}),
]


@pytest.mark.parametrize(("config", "version", "wanted"), CLIPPED)
def test_clipnorm(config: Any, version: str, wanted: dict[str, Any], tmp_path: Path) -> None:
    count = "iteration:0" if config.keys() >= {"jit_compile"} else "SGD/iter:0"
    arrays = {count: np.int64(3), "SGD/dense/bias/momentum:0": np.ones(2, "f4")}
    found = ao.load(written(tmp_path, version, "SGD", config, arrays))
    assert {name: getattr(found, name) for name in wanted} == wanted
    if "lr" not in config:
        again = ao.deserialize({"class_name": "Custom>SGD", "config": config})
        assert again.get_config() == found.get_config()


def test_clipnorm_of_the_latest() -> None:
    found = ao.SGD.from_config(LATEST | {"clipnorm": 2.0})
    assert (found.clipnorm, found.clipnorm_per_tensor) == (None, 2.0)
    plain = {key: value for key, value in MIDDLE.items() if key != "name"}
    assert ao.SGD.from_config(plain | {"clipnorm": 2.0}).clipnorm == 2.0  # Keras 2.3


def test_what_cannot_be_honoured_is_said() -> None:
    with pytest.warns(UserWarning, match=r"clipvalue=1\.0 applied before clipnorm"):
        ao.SGD.from_config(MIDDLE | {"clipnorm": 2.0, "clipvalue": 1.0})
    with pytest.warns(UserWarning, match="ema_overwrite_frequency=5"):
        ao.SGD.from_config(TF_NEW | {"use_ema": True, "ema_overwrite_frequency": 5})
    with pytest.raises(ValueError, match=r"Addons>AdamW, of TensorFlow Addons"):
        ao.deserialize({"class_name": "Addons>AdamW", "config": {}})


def test_decay_is_not_always_that_of_the_rate() -> None:
    nadam = {"name": "Nadam", "learning_rate": 0.1, "decay": 0.25, "beta_1": 0.5}
    assert ao.Nadam.from_config(nadam).schedule_decay == 0.25
    ftrl = ao.Ftrl.from_config({"name": "Ftrl", "learning_rate": 0.1, "decay": 0.25})
    ftrl.iterations = 4
    assert ftrl.lr == pytest.approx(0.05)
    assert ao.Ftrl.from_config({"name": "F", "learning_rate": 0.1, "decay": 0.0}).lr == 0.1
    rms = {"name": "RMSprop", "learning_rate": 0.1, "decay": 0.0, "momentum": 0.5}
    assert ao.RMSprop.from_config(rms).preset == "keras3"
    assert ao.RMSprop.from_config(rms | {"momentum": 0.0}).preset is None


LOST: list[tuple[str, dict[str, Any], int, bool]] = [
    ("RMSprop", {"lr": 0.1, "decay": 0.1}, 1, True),
    ("RMSprop", {"lr": 0.1, "decay": 0.0}, 1, False),
    ("Adadelta", {"lr": 0.1, "decay": 0.1}, 2, True),
    ("Adam", {"lr": 0.1, "decay": 0.0}, 2, True),  # of Keras 1.0, which kept no count
]


@pytest.mark.parametrize(("name", "config", "slots", "said"), LOST)
def test_a_count_that_is_not_there(
    name: str, config: dict[str, Any], slots: int, said: bool, tmp_path: Path
) -> None:
    arrays = {f"training/{name}/Variable_{k}:0": np.ones(2, "f4") for k in range(slots)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = ao.load(written(tmp_path, "2.0.9", name, config, arrays))
    assert [bool("optimizer.iterations" in str(w.message)) for w in caught] == [True] * said
    found.iterations = 9
    params = np.ones(2, "f4")
    found.init(params)
    assert found.iterations == 9
    report = type(found)(**config).load_weights(tmp_path / "model.h5")
    assert "set optimizer.iterations" in " ".join(report.notes)


def test_a_product_that_is_not_there(tmp_path: Path) -> None:
    config = {"lr": 0.1, "beta_1": 0.75, "schedule_decay": 0.5}
    arrays = {"Nadam/iterations:0": np.int64(5), "a:0": np.ones(2, "f4"), "b:0": np.ones(2, "f4")}
    found = ao.load(written(tmp_path, "2.0.9", "Nadam", config, arrays))
    found.init(np.ones(2, "f4"))
    momenta = [0.75 * (1 - 0.5 * 0.96 ** (t * 0.5)) for t in range(1, 6)]
    assert found.m_schedule == pytest.approx(np.prod(momenta), rel=1e-14)
    stepped = ao.Nadam(**config)
    for _ in range(5):
        stepped.apply(np.ones(2), np.ones(2))
    assert stepped.scalars_after(5) == pytest.approx({"m_schedule": stepped.m_schedule})


def test_a_ramp_follows_from_the_count() -> None:
    stepped = ao.SGD(lr=0.1, momentum=0.5, schedule_decay=0.1, mom_iter_max=10)
    for count in range(1, 14):
        stepped.apply(np.ones(2), np.ones(2))
        found = stepped.scalars_after(count)["ramped_momentum"]
        assert found == pytest.approx(stepped.ramped_momentum)
    free = ao.ScheduleFreeAdamW(weight_lr_power=0.0)
    for _ in range(4):
        free.apply(np.ones(2), np.ones(2))
    assert free.scalars_after(4) == {"weight_sum": free.weight_sum}
