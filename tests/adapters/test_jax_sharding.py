"""Parameters distributed over eight devices of JAX, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from optimizers_under_test import NAMES, USUAL
from places import TESTS

pytest.importorskip("optax")
pytest.importorskip("jax")
pytestmark = [pytest.mark.needs("jax"), pytest.mark.slow]


ROWS = {"usual": USUAL, "others": tuple(sorted(set(NAMES) - set(USUAL)))}


@pytest.mark.parametrize("row", ROWS)
def test_sharded(row: str) -> None:
    """State as the parameters are, nothing gathered, and the steps of a single device."""
    script = TESTS / "jax_devices.py"
    ran = subprocess.run(
        [sys.executable, str(script), *ROWS[row]], capture_output=True, text=True, check=False
    )
    assert ran.stdout == "fine\n", ran.stderr
