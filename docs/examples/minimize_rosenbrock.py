"""
A minimization with a stop on the way
=====================================

Down Rosenbrock's valley, with a stop on the way, and on from the checkpoint to the same end.
``ao.minimize`` takes any optimizer and the arrays of any library; here NumPy's, with the gradient
written by hand.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import arrayoptim as ao


def rosenbrock(point: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Return the height at a point, and which way is up."""
    x, y = point["x"], point["y"]
    height = 100.0 * (y - x**2) ** 2 + (1.0 - x) ** 2
    slope = {"x": -400.0 * x * (y - x**2) - 2.0 * (1.0 - x), "y": 200.0 * (y - x**2)}
    return float(height), slope


def start() -> dict[str, Any]:
    """Return the usual place to start from."""
    return {"x": np.array(-1.2), "y": np.array(1.0)}


def tired(so_far: ao.Minimization) -> None:
    """Stop halfway, as a crash might."""
    if so_far.steps == 400:
        raise StopIteration


# %%
# Once without a stop, once with one.

if __name__ == "__main__":
    whole = ao.minimize(rosenbrock, start(), ao.Adam(lr=0.05), steps=1200, patience=100)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rosenbrock.h5"
        half = ao.minimize(
            rosenbrock, start(), ao.Adam(lr=0.05), steps=1200, patience=100,
            callback=tired, checkpoint=file,
        )  # fmt: skip
        print(f"{half.message} Loss {half.history[-1]:.6f} after {half.steps} steps.")
        again = ao.minimize(
            rosenbrock, start(), "adam", steps=1200, patience=100, checkpoint=file
        )  # the file has the learning rate too
    print(f"{again.message} Loss {again.history[-1]:.2e} after {again.steps} steps.")
    print(f"x = {float(again.params['x']):.6f}, y = {float(again.params['y']):.6f}")
    assert again.history == whole.history and again.params == whole.params
