"""Record what the schedules of Keras 3, torch and optax give into ``schedules.json``.

Run it with ``keras``, ``torch``, ``jax`` and ``optax`` installed. Nothing here is computed by this
library.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

STEPS = [*range(31), 39, 40, 41, 69, 70, 71, 100, 149, 150, 151, 1000]

KERAS: list[tuple[str, dict[str, Any]]] = [
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.9}),
    ("ExponentialDecay",
     {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.9, "staircase": True}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5}),
    ("InverseTimeDecay",
     {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5, "staircase": True}),
    ("PiecewiseConstantDecay", {"boundaries": [10], "values": [0.1, 0.01]}),
    ("PiecewiseConstantDecay", {"boundaries": [5, 20, 70], "values": [0.1, 0.2, 0.05, 0.001]}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 20}),
    ("PolynomialDecay",
     {"initial_learning_rate": 0.1, "decay_steps": 20, "end_learning_rate": 0.01, "power": 0.5}),
    ("PolynomialDecay",
     {"initial_learning_rate": 0.1, "decay_steps": 15, "power": 2.0, "cycle": True}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 30}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 30, "alpha": 0.25}),
    ("CosineDecay",
     {"initial_learning_rate": 0.01, "decay_steps": 25, "alpha": 0.1, "warmup_target": 0.2,
      "warmup_steps": 5}),
    ("CosineDecay",
     {"initial_learning_rate": 0.1, "decay_steps": 20, "warmup_target": 0.2, "warmup_steps": 0}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 20, "warmup_steps": 5}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 10}),
    ("CosineDecayRestarts",
     {"initial_learning_rate": 0.1, "first_decay_steps": 10, "t_mul": 1.0, "m_mul": 0.9}),
    ("CosineDecayRestarts",
     {"initial_learning_rate": 0.1, "first_decay_steps": 7, "t_mul": 1.5, "m_mul": 0.8,
      "alpha": 0.05}),
]  # fmt: skip

CYCLES: list[dict[str, Any]] = [
    {"total_steps": 40},
    {"total_steps": 31, "pct_start": 0.5, "div_factor": 10.0, "final_div_factor": 100.0},
    {"total_steps": 40, "anneal_strategy": "linear"},
]

METRICS = [1.0, 0.9, 0.9, 0.89995, 0.95, 0.8, 0.85, 0.85, 0.85, 0.85, 0.7, 0.7, 0.7, 0.7, 0.7,
           0.7, 0.7, 0.7, 0.6, 0.65, 0.66, 0.67, 0.68, 0.69]  # fmt: skip

PLATEAUS: list[dict[str, Any]] = [
    {"factor": 0.5, "patience": 2},
    {"factor": 0.5, "patience": 1, "cooldown": 2},
    {"factor": 0.1, "patience": 2, "min_lr": 0.003, "cooldown": 1, "min_delta": 0.1},
    {"factor": 0.5, "patience": 3, "mode": "max"},
    {"factor": 0.5, "patience": 0},
]


def keras_rows() -> list[dict[str, Any]]:
    """Return the values of Keras's schedules in double precision."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    keras.config.set_floatx("float64")
    rows = []
    for name, arguments in KERAS:
        schedule = getattr(keras.optimizers.schedules, name)(**arguments)
        adam = keras.optimizers.Adam(schedule)
        rows.append(
            {
                "class_name": name,
                "arguments": arguments,
                "serialized": adam.get_config()["learning_rate"],
                "values": [float(schedule(step)) for step in STEPS],
            }
        )
    return rows


def plateau_rows() -> list[dict[str, Any]]:
    """Return the rates that Keras's callback sets after each metric."""
    import keras

    rows = []
    for arguments in PLATEAUS:
        callback = keras.callbacks.ReduceLROnPlateau(monitor="loss", **{"mode": "min", **arguments})
        optimizer = SimpleNamespace(learning_rate=0.1)
        callback.set_model(SimpleNamespace(optimizer=optimizer, metrics=[]))
        callback.on_train_begin()
        values = []
        for epoch, metric in enumerate(METRICS):
            callback.on_epoch_end(epoch, {"loss": metric})
            values.append(float(optimizer.learning_rate))
        rows.append({"arguments": arguments, "metrics": METRICS, "values": values})
    return rows


def torch_rows() -> tuple[list[dict[str, Any]], list[float]]:
    """Return rate and momentum of torch's one-cycle schedule, and the rate of its warm-up."""
    import torch

    def sgd() -> Any:
        return torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9)

    def read(optimizer: Any, scheduler: Any, count: int, key: str) -> list[float]:
        values = []
        for step in range(count):
            values.append(float(optimizer.param_groups[0][key]))
            optimizer.step()
            if step + 1 < count:
                scheduler.step()
        return values

    rows = []
    for arguments in CYCLES:
        row: dict[str, Any] = {"arguments": arguments}
        for key in ("lr", "momentum"):
            optimizer = sgd()
            scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, **arguments)
            row[key] = read(optimizer, scheduler, arguments["total_steps"], key)
        rows.append(row)
    optimizer = sgd()
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.25, total_iters=12)
    return rows, read(optimizer, warmup, 20, "lr")


def optax_rows() -> dict[str, list[float]]:
    """Return the values of optax's schedules in double precision."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import optax

    linear, cosine = optax.linear_schedule, optax.cosine_decay_schedule
    made: dict[str, Callable[[int], Any]] = {
        "warmup": linear(0.01, 0.2, 25),
        "warmup_stable_decay": optax.join_schedules(
            [linear(0.01, 0.2, 10), optax.constant_schedule(0.2), linear(0.2, 0.05, 40)], [10, 30]
        ),
        "warmup_stable_cosine": optax.join_schedules(
            [linear(0.0, 0.2, 10), optax.constant_schedule(0.2), cosine(0.2, 40)], [10, 30]
        ),
        "joined": optax.join_schedules(
            [linear(0.0, 0.2, 10), optax.exponential_decay(0.2, 7, 0.5), cosine(0.1, 30)], [10, 40]
        ),
    }
    return {name: [float(f(step)) for step in STEPS] for name, f in made.items()}


def main() -> None:
    """Write the file beside this script."""
    keras = {"schedules": keras_rows(), "plateaus": plateau_rows()}
    cycles, warmup = torch_rows()
    content = {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("keras", "torch", "optax", "jax", "numpy")},
        },
        "steps": STEPS,
        "keras": keras,
        "torch": {"cycles": cycles, "warmup": warmup},
        "optax": optax_rows(),
    }
    file = Path(__file__).with_suffix(".json")
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
