"""Records to write, and bit-for-bit comparison of what comes back."""

from __future__ import annotations

from typing import Any

import numpy as np

from arrayoptim.persistence import Record

SLOTS = {
    "SGD": ("momentum",),
    "RMSprop": ("velocity", "momentum", "average_gradient"),
    "Adagrad": ("accumulator",),
    "Adadelta": ("accumulated_grad", "accumulated_delta_var"),
    "Adam": ("momentum", "velocity", "velocity_hat"),
    "Adamax": ("momentum", "norm"),
    "Nadam": ("momentum", "velocity"),
    "Homemade": ("first", "second"),
}
SCALARS = {"Nadam": {"m_schedule": 0.1 + 0.2}, "SGD": {"ramped_momentum": float("inf")}}
PATHS = ["layers/0/kernel", "layers/0/bias", "layers/1/kernel"]
SHAPES = [(4, 3), (3,), ()]


def record(class_name: str = "Adam", seed: int = 0, **changes: Any) -> Record:
    """Return a record of one of the classes above."""
    rng = np.random.default_rng(seed)
    slots = {
        slot: [rng.standard_normal(shape).astype("float32") for shape in SHAPES]
        for slot in SLOTS[class_name]
    }
    made = {
        "source": "arrayoptim",
        "class_name": class_name,
        "config": {"lr": 1e-3, "nesterov": False, "clipnorm": None, "name": "a"},
        "iterations": 2**40 + seed,
        "scalars": SCALARS.get(class_name, {}),
        "slots": slots,
        "paths": dict.fromkeys(slots, PATHS),
        "skipped": 2,
    }
    return Record(**{**made, **changes})


def one(array: Any, path: str = "w") -> Record:
    """Return a record of SGD over one parameter."""
    return record("SGD", scalars={}, slots={"momentum": [array]}, paths={"momentum": [path]})


def bits(array: np.ndarray) -> tuple[Any, ...]:
    """Return all that two equal arrays have in common, NaN payloads too."""
    return array.dtype, array.shape, array.tobytes()


def same_record(found: Record, wanted: Record) -> None:
    """Assert that nothing was lost."""
    assert found.class_name == wanted.class_name
    assert found.config == wanted.config
    assert found.iterations == wanted.iterations
    assert found.scalars == wanted.scalars
    assert found.skipped == wanted.skipped
    assert found.paths == wanted.paths
    assert {s: list(map(bits, a)) for s, a in found.slots.items()} == {
        s: list(map(bits, a)) for s, a in wanted.slots.items()
    }
