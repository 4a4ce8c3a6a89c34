"""Files of tf.keras, old and new, as tf_keras wrote them: read, and trained on as it goes on."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from places import TESTS

ARCHIVE = zipfile.ZipFile(TESTS / "golden_keras" / "tf_keras.zip")
INDEX: dict[str, Any] = json.loads(ARCHIVE.read("index.json"))
NUMBERS = np.load(io.BytesIO(ARCHIVE.read("numbers.npz")))
FILES = [(name, file) for name, row in INDEX.items() for file in row["files"]]
LESS = ("old_adam.keras", "new_adam.weights.h5")
WHOLE = [row for row in FILES if row[1] not in LESS]
SAVED = 3
TOLERANCE = 2e-6


def arrays(prefix: str) -> list[np.ndarray]:
    """Return the arrays `prefix/0` and so on."""
    count = sum(key.rpartition("/")[0] == prefix for key in NUMBERS.files)
    return [NUMBERS[f"{prefix}/{k}"].copy() for k in range(count)]


def unpacked(file: str, folder: Path) -> Path:
    """Put a file of the archive into a folder."""
    return Path(ARCHIVE.extract(file, folder))


def loaded(path: Path, name: str) -> ao.Optimizer:
    """Load it; only a loss scale is named as left out."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        optimizer = ao.load(path)
    assert ["loss scale" in str(w.message) for w in said] == [True] * name.endswith("scaled")
    return optimizer


def goes_on(optimizer: ao.Optimizer, name: str) -> None:
    """Assert that the next steps are those of tf_keras."""
    params, key = arrays(f"{name}/before"), INDEX[name]["gradients"]
    for step in range(SAVED, 2 * SAVED):
        params = optimizer.apply(arrays(f"{key}/{step}"), params)
    for found, wanted in zip(params, arrays(f"{name}/after"), strict=True):
        np.testing.assert_allclose(found, wanted, TOLERANCE, TOLERANCE)
    assert optimizer.iterations == 2 * SAVED


@pytest.mark.parametrize(("name", "file"), WHOLE, ids=[file for _, file in WHOLE])
def test_goes_on(name: str, file: str, tmp_path: Path) -> None:
    optimizer = loaded(unpacked(file, tmp_path), name)
    assert type(optimizer).__name__ == INDEX[name]["class_name"]
    goes_on(optimizer, name)
    if averages := arrays(f"{name}/average"):
        found = optimizer.averages(arrays(f"{name}/after"))
        for ours, theirs in zip(found, averages, strict=True):
            np.testing.assert_allclose(ours, theirs, TOLERANCE, TOLERANCE)


@pytest.mark.parametrize("file", LESS)
def test_what_holds_too_little(file: str, tmp_path: Path) -> None:
    words = {"old_adam.keras": "no state of the Adam", "new_adam.weights.h5": "unknown class"}
    with pytest.raises(ValueError, match=rf"{file}: .*{words[file]}"):
        ao.load(unpacked(file, tmp_path))


@pytest.mark.parametrize("name", ["old_clipnorm", "old_nadam", "new_rmsprop_both", "new_averages"])
def test_into_an_optimizer_that_there_is(name: str, tmp_path: Path) -> None:
    optimizer = getattr(ao, INDEX[name]["class_name"])()
    optimizer.load_weights(unpacked(f"{name}.h5", tmp_path))
    goes_on(optimizer, name)


def test_averages_are_left_out_where_none_are_kept(tmp_path: Path) -> None:
    optimizer = ao.Adam(lr=0.05, epsilon=1e-7)
    optimizer.init(arrays("new_averages/before"))
    path = unpacked("new_averages.h5", tmp_path)
    report = optimizer.load_weights(path, hyperparameters=False)
    assert "moving averages of the model are left out" in " ".join(report.notes)
    goes_on(optimizer, "new_averages")


def test_kinds_of_tensorflow_are_named(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    (tmp_path / "steps").mkdir()
    for name in ("checkpoint", "ckpt-1.index", "ckpt-1.data-00000-of-00001"):
        (tmp_path / "steps" / name).write_bytes(b"x")
    kinds = {
        "saved": "SavedModel",
        "saved/saved_model.pb": "part of a SavedModel",
        "steps": "folder of checkpoints",
        "steps/ckpt-1": "found a checkpoint of TensorFlow",
        "steps/ckpt-1.index": "part of a checkpoint",
        "steps/ckpt-1.data-00000-of-00001": "part of a checkpoint",
    }
    for name, words in kinds.items():
        with pytest.raises(ValueError, match=words):
            ao.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        ao.load(tmp_path / "nowhere")
