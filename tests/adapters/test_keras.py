"""Keras and TensorFlow: suites in processes of their own, as one can have but one Keras backend.

A suite runs by itself too: ``KERAS_BACKEND=jax pytest tests/keras_suites/steps.py``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from places import TESTS

HERE = TESTS
SUITES = (
    "settings.py",
    "edges.py",
    "steps.py",
    "training.py",
    "exchange.py",
    "subclasses.py",
    "files.py",
)
LIBRARIES = ("torch", "jax", "tensorflow")
ROWS = [(library, suite) for library in LIBRARIES for suite in SUITES]
ROWS += [("tensorflow", suite) for suite in ("tensors.py", "foreign.py", "sparse.py")]


@pytest.mark.slow
@pytest.mark.parametrize(("library", "suite"), ROWS)
def test_suite(library: str, suite: str) -> None:
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run(library, "-m", "pytest", *options, str(HERE / "keras_suites" / suite))


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_example(library: str) -> None:
    output = run(library, str(HERE.parent / "docs" / "examples" / "keras_fit.py"))
    assert "SGD went on exactly" in output and "lr 0.0250" in output


PROGRAM = """
import keras
import numpy as np
import arrayoptim as ao

model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
{compile}
model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
model.save({path!r})
"""
AGAIN = """
{load}
import keras

model = keras.models.load_model({path!r})
assert type(model.optimizer).__module__.startswith("arrayoptim") and model.optimizer.iterations == 1
"""


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_readme(library: str, tmp_path: Path) -> None:
    """The line of the README trains, and what it says to import first loads what was saved."""
    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| Keras 3 \|(.*?)\|", text, flags=re.MULTILINE)
    compiled, imported, loads = re.findall("`(.*?)`", row)
    assert loads == "keras.models.load_model"
    path = str(tmp_path / "model.keras")
    run(library, "-c", PROGRAM.format(compile=compiled, path=path))
    run(library, "-c", AGAIN.format(load=imported, path=path))


def run(library: str, *command: str) -> str:
    """Run a process with a backend of Keras; return what it prints."""
    missing = [name for name in ("keras", library) if find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    variables = {
        "KERAS_BACKEND": library,
        "ARRAYOPTIM_TEST_BACKENDS": "numpy",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
    ran = subprocess.run(
        [sys.executable, *command],
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
