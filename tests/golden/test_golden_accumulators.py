"""Steps recorded from torch, Keras 3 and schedulefree: see ``golden_peers/accumulators.py``."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend
from places import TESTS

FOLDER = TESTS / "golden_peers"
INDEX: dict[str, Any] = json.loads((FOLDER / "accumulators.json").read_text())["cases"]
ARRAYS = np.load(FOLDER / "accumulators.npz")
KEEPS_A_MEAN = {"ASGD", "ScheduleFreeSGD", "ScheduleFreeAdamW"}


@pytest.mark.parametrize("case", INDEX)
def test_agrees(case: str, backend: TestBackend, engine: str) -> None:
    """Parameters and averages after each of 20 steps."""
    optimizer = ao.get(INDEX[case])
    params = [backend.asarray(ARRAYS["start"], "float64")]
    with ao.engine(engine):
        for step, g in enumerate(ARRAYS["grads"]):
            params = optimizer.apply([backend.asarray(g, "float64")], params)
            found = {"params": backend.read(params)[0]}
            if INDEX[case]["class_name"] in KEEPS_A_MEAN:
                found["averages"] = backend.read(optimizer.averages(params))[0]
            for what, values in found.items():
                wanted = ARRAYS[f"{case}/{what}"][step]
                np.testing.assert_allclose(values, wanted, rtol=1e-10, atol=1e-10, err_msg=what)


def test_the_records_are_of_several_packages() -> None:
    """Nothing fell out when they were recorded, and averages are no parameters."""
    assert {entry["package"] for entry in INDEX.values()} == {"torch", "keras", "schedulefree"}
    for case, entry in INDEX.items():
        differ = not np.array_equal(ARRAYS[f"{case}/params"], ARRAYS[f"{case}/averages"])
        # torch's t0 of a million steps is not reached by the defaults.
        assert differ == (entry["class_name"] in KEEPS_A_MEAN and case != "asgd")


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_ftrl_of_a_keras_3_file(suffix: str) -> None:
    """Counter, hyperparameters and slots are those of the model that was saved."""
    optimizer = ao.load(FOLDER / f"accumulators.{suffix}")
    optimizer.init([np.zeros((3, 2), np.float32), np.zeros(2, np.float32)])
    saved = {name: ARRAYS[name] for name in ARRAYS.files if name.startswith("file/")}
    assert (optimizer.iterations, optimizer.beta) == (2, 0.5)
    found = optimizer.get_weights()[1:]
    for slot, pair in (("accumulator", found[:2]), ("linear", found[2:])):
        wanted = [array for name, array in saved.items() if name.endswith(slot)]
        assert [w.shape for w in wanted] == [(3, 2), (2,)]
        for a, b in zip(pair, wanted, strict=True):
            np.testing.assert_array_equal(a, b)


def test_adagrad_goes_on_as_in_keras_3() -> None:
    """What Keras 3 begins with is a hyperparameter that its configuration sets."""
    path = FOLDER.parent / "golden" / "h5" / "keras3_4_adagrad.keras"
    optimizer = ao.load(path)
    assert optimizer.preset == "keras3"
    assert optimizer.initial_accumulator_value == 0.1
    fresh = ao.Adagrad.from_config(optimizer.get_config())
    fresh.init(np.zeros(3))
    np.testing.assert_array_equal(fresh.get_weights()[1], np.full(3, 0.1))
