"""Keras and TensorFlow: suites in processes of their own, as one can have but one Keras backend.

A suite runs by itself too: ``KERAS_BACKEND=jax pytest tests/keras_suites/steps.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SUITES = ("settings.py", "steps.py", "training.py")
ROWS = [(library, suite) for library in ("torch", "jax", "tensorflow") for suite in SUITES]
ROWS.append(("tensorflow", "tensors.py"))


@pytest.mark.slow
@pytest.mark.parametrize(("library", "suite"), ROWS)
def test_suite(library: str, suite: str) -> None:
    missing = [name for name in ("keras", library) if find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    variables = {
        "KERAS_BACKEND": library,
        "ARRAYOPTIM_TEST_BACKENDS": "numpy",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    ran = subprocess.run(
        [*command, str(HERE / "keras_suites" / suite)],
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
