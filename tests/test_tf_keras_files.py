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

ARCHIVE = zipfile.ZipFile(Path(__file__).parent / "golden_keras" / "tf_keras.zip")
INDEX: dict[str, Any] = json.loads(ARCHIVE.read("index.json"))
NUMBERS = np.load(io.BytesIO(ARCHIVE.read("numbers.npz")))
FILES = [(name, file) for name, row in INDEX.items() for file in row["files"]]
WHOLE = [row for row in FILES if not row[1].endswith("weights.h5")]
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
