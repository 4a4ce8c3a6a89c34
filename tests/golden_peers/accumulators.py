"""Record 20 steps of other libraries into ``accumulators.npz`` and ``accumulators.json``.

Run once, with torch, keras (``KERAS_BACKEND=jax JAX_ENABLE_X64=1``) and schedulefree installed:
``python tests/golden_peers/accumulators.py``. Tests read the two files and not this one.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

STEPS, SIZE = 20, 12
FREE = {"warmup_steps": 5, "r": 1.0, "weight_decay": 0.1}
SHRINK = "l2_shrinkage_regularization_strength"

# name: package, class there, arguments there, class here, arguments here
CASES: dict[str, tuple[str, str, dict[str, Any], str, dict[str, Any]]] = {
    "adagrad": (
        *("torch", "Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.3, "lr_decay": 0.05}),
        "Adagrad",
        {"lr": 0.1, "initial_accumulator_value": 0.3, "decay": 0.05, "epsilon": 1e-10},
    ),
    "asgd": ("torch", "ASGD", {"lr": 0.1}, "ASGD", {"lr": 0.1}),
    "asgd_early": (
        *("torch", "ASGD", {"lr": 0.1, "lambd": 0.2, "alpha": 0.6, "t0": 4.0}),
        *("ASGD", {"lr": 0.1, "lambd": 0.2, "alpha": 0.6, "t0": 4.0}),
    ),
    "rprop": ("torch", "Rprop", {"lr": 0.02}, "Rprop", {"lr": 0.02}),
    "rprop_bounded": (
        *("torch", "Rprop", {"lr": 0.02, "etas": (0.4, 1.5), "step_sizes": (0.01, 0.05)}),
        "Rprop",
        {"lr": 0.02, "eta_minus": 0.4, "eta_plus": 1.5, "step_min": 0.01, "step_max": 0.05},
    ),
    "ftrl": ("keras", "Ftrl", {"learning_rate": 0.2}, "Ftrl", {"lr": 0.2}),
    "ftrl_sparse": (
        "keras",
        "Ftrl",
        {
            **{"learning_rate": 0.2, "initial_accumulator_value": 0.5, "beta": 0.7},
            **{"l1_regularization_strength": 0.3, "l2_regularization_strength": 0.1, SHRINK: 0.2},
        },
        "Ftrl",
        {
            **{"lr": 0.2, "initial_accumulator_value": 0.5, "beta": 0.7},
            **{"l1_regularization_strength": 0.3, "l2_regularization_strength": 0.1, SHRINK: 0.2},
        },
    ),
    "schedule_free_sgd": (
        *("schedulefree", "SGDScheduleFree", {"lr": 0.5}, "ScheduleFreeSGD", {"lr": 0.5}),
    ),
    "schedule_free_sgd_warm": (
        *("schedulefree", "SGDScheduleFree", {"lr": 0.5, "momentum": 0.8, **FREE}),
        *("ScheduleFreeSGD", {"lr": 0.5, "momentum": 0.8, **FREE}),
    ),
    "schedule_free_adamw": (
        *("schedulefree", "AdamWScheduleFree", {"lr": 0.05, "foreach": False}),
        *("ScheduleFreeAdamW", {"lr": 0.05}),
    ),
    "schedule_free_adamw_warm": (
        "schedulefree",
        "AdamWScheduleFree",
        {"lr": 0.05, "betas": (0.85, 0.95), "eps": 1e-6, "foreach": False, **FREE},
        "ScheduleFreeAdamW",
        {"lr": 0.05, "momentum": 0.85, "beta_2": 0.95, "epsilon": 1e-6, **FREE},
    ),
}

Trained = Iterator[tuple[np.ndarray, np.ndarray]]


def with_torch(cls: Callable[..., Any], kwargs: dict[str, Any]) -> Trained:
    """Yield parameters and averages after each step of an optimizer for torch."""
    import torch

    torch.set_default_dtype(torch.float64)  # in which ASGD keeps its step size
    p = torch.from_numpy(np.array(START)).requires_grad_()
    optimizer = cls([p], **kwargs)
    switch = hasattr(optimizer, "eval")
    if switch:
        optimizer.train()
    for g in GRADS:
        p.grad = torch.from_numpy(g.copy())
        optimizer.step()
        values = p.detach().numpy().copy()
        mean = values
        if switch:
            optimizer.eval()
            mean = p.detach().numpy().copy()
            optimizer.train()
            # What the switch rounds is not a part of the step.
            with torch.no_grad():
                p.copy_(torch.from_numpy(values))
        elif "ax" in optimizer.state[p]:
            mean = optimizer.state[p]["ax"].numpy().copy()
        yield values, mean


def with_keras(cls: Callable[..., Any], kwargs: dict[str, Any]) -> Trained:
    """Yield parameters, twice, after each step of a Keras optimizer."""
    import keras

    keras.config.set_floatx("float64")
    p = keras.Variable(START, dtype="float64")
    optimizer = cls(**kwargs)
    for g in GRADS:
        optimizer.apply([keras.ops.convert_to_tensor(g, "float64")], [p])
        values = np.array(p.numpy())
        yield values, values


def save_ftrl(folder: Path) -> dict[str, np.ndarray]:
    """Save a trained Keras model with its optimizer; return what is in the optimizer."""
    import keras

    keras.config.set_floatx("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Ftrl(0.1, beta=0.5), "mse")
    model.fit(rng.normal(size=(8, 3)), rng.normal(size=(8, 2)), batch_size=4, verbose=0)
    model.save(folder / "accumulators.keras")
    model.save(folder / "accumulators.h5")
    return {f"file/{v.path}": np.array(v.numpy()) for v in model.optimizer.variables}


def classes(package: str) -> Any:
    """Return the module that holds a package's optimizers."""
    if package == "torch":
        import torch

        return torch.optim
    if package == "keras":
        import keras

        return keras.optimizers
    import schedulefree

    return schedulefree


rng = np.random.default_rng(2024)
START = rng.normal(size=SIZE)
GRADS = rng.normal(size=(STEPS, SIZE)) * np.logspace(-3, 1, SIZE) + 0.2 * rng.normal(size=SIZE)
GRADS[7] = 0.0
GRADS[3, ::4] = 0.0

if __name__ == "__main__":
    folder, arrays, index = Path(__file__).parent, {"start": START, "grads": GRADS}, {}
    for name, (package, theirs, given, ours, config) in CASES.items():
        run = with_keras if package == "keras" else with_torch
        steps = list(run(getattr(classes(package), theirs), given))
        arrays[f"{name}/params"] = np.array([p for p, _ in steps])
        arrays[f"{name}/averages"] = np.array([a for _, a in steps])
        call = f"{theirs}({', '.join(f'{k}={v!r}' for k, v in given.items())})"
        index[name] = {
            **{"package": package, "version": version(package), "call": call},
            **{"class_name": ours, "config": config},
        }
    arrays |= save_ftrl(folder)
    about = {"python": platform.python_version(), "numpy": version("numpy"), "dtype": "float64"}
    text = json.dumps({"recorded_by": Path(__file__).name, **about, "cases": index}, indent=1)
    (folder / "accumulators.json").write_text(text + "\n")
    np.savez_compressed(folder / "accumulators.npz", **arrays)
