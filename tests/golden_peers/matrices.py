"""Record 20 steps of public implementations of the optimizers of whole matrices.

``python tests/golden_peers/matrices.py`` writes ``matrices.json``, which says what was called, and
``matrices.npz``, what came out, beside itself. It needs torch, jax, optax, keras
(``KERAS_BACKEND=jax JAX_ENABLE_X64=1``) and pytorch_optimizer, and not this library. Everything is
computed in float64, but for torch's Muon, which iterates in bfloat16, and SOAP's QR decomposition,
which is computed in float32.

Each case trains a tall and a wide matrix and a vector; Muon and Shampoo only the matrices, as rules
for vectors differ, and SOAP only the wide one: two eigenvalues of the tall one's first statistics
are 0, and what their eigenvectors are is left to chance. Where conventions differ, the call or our
hyperparameters make up for it:

- torch and optax add epsilon elsewhere in Adafactor: there it is very small.
- optax's Adafactor does not factor small matrices by itself. It rounds the decay rate to float32.
- Keras rounds some scalars to float32.
- optax's Muon corrects the bias of the mean that it looks ahead with: there ``nesterov=False``.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytorch_optimizer
import torch

jax.config.update("jax_enable_x64", True)
torch.set_default_dtype(torch.float64)
keras.config.set_floatx("float64")

STEPS, SHAPES = 20, [(5, 3), (3, 4), (6,)]
RANDOM = np.random.default_rng(11)
START = [RANDOM.normal(size=shape) for shape in SHAPES]
GRADIENTS = [
    [RANDOM.normal(size=shape) * 10 ** RANDOM.uniform(-2, 1, size=shape) for shape in SHAPES]
    for _ in range(STEPS)
]

# class here, hyperparameters here, call there, tolerance
CASES: list[tuple[str, dict[str, Any], str, float]] = [
    (
        "Adafactor",
        {"lr": 0.3},
        "torch.optim.Adafactor(params, lr=0.3, eps=(1e-30, 1e-3))",
        1e-10,
    ),
    (
        "Adafactor",
        {"lr": 0.25, "beta_2_decay": -0.6, "epsilon_2": 0.5, "clip_threshold": 0.7},
        "keras.optimizers.Adafactor(0.25, beta_2_decay=-0.6, epsilon_2=0.5, clip_threshold=0.7)",
        1e-6,
    ),
    (
        "Adafactor",
        {"lr": 0.3, "relative_step": False},
        "optax.adafactor(0.3, min_dim_size_to_factor=1)",
        1e-6,
    ),
    (
        "Adafactor",
        {"lr": 0.3, "relative_step": False, "scale_parameter": False, "clip_threshold": 0.5},
        "optax.adafactor(0.3, min_dim_size_to_factor=1, multiply_by_parameter_scale=False, "
        "clipping_threshold=0.5)",
        1e-6,
    ),
    ("SM3", {"lr": 0.1}, "optax.sm3(0.1)", 1e-10),
    ("SM3", {"lr": 0.1, "momentum": 0.5}, "optax.sm3(0.1, momentum=0.5)", 1e-10),
    (
        "Muon",
        {"lr": 0.1, "nesterov": False, "scaling": "shape", "epsilon": 1e-12, "outputs": "last"},
        "optax.contrib.muon(0.1, nesterov=False, eps=1e-12)",
        1e-9,
    ),
    (
        "Muon",
        {"lr": 0.1, "momentum": 0.9, "nesterov": False, "epsilon": 1e-12, "ns_steps": 3},
        "optax.contrib.muon(0.1, beta=0.9, nesterov=False, eps=1e-12, ns_steps=3, "
        "consistent_rms=0.2)",
        1e-9,
    ),
    (
        "Muon",
        {"lr": 0.125, "weight_decay": 0.25},
        "keras.optimizers.Muon(0.125, weight_decay=0.25)",
        1e-6,
    ),
    (
        "Muon",
        {"lr": 0.1, "preset": "torch"},
        "torch.optim.Muon(params, lr=0.1, weight_decay=0.1)",
        1e-10,
    ),
    (
        "Shampoo",
        {"lr": 0.1, "epsilon": 1e-6},
        "pytorch_optimizer.Shampoo(params, lr=0.1)",
        1e-10,
    ),
    (
        "Shampoo",
        {"lr": 0.3, "epsilon": 1e-3, "weight_decay": 0.1},
        "pytorch_optimizer.Shampoo(params, lr=0.3, matrix_eps=1e-3, weight_decay=0.1, "
        "weight_decouple=True)",
        1e-10,
    ),
    (
        "SOAP",
        {"lr": 0.1},
        "pytorch_optimizer.SOAP(params, lr=0.1, weight_decay=0.0)",
        1e-6,
    ),
    (
        "SOAP",
        {"lr": 0.1, "beta_1": 0.8, "shampoo_beta": 0.9, "precondition_frequency": 3},
        "pytorch_optimizer.SOAP(params, lr=0.1, betas=(0.8, 0.95), shampoo_beta=0.9, "
        "precondition_frequency=3, weight_decay=0.0)",
        1e-6,
    ),
    (
        "SOAP",
        {"lr": 0.1, "precondition_frequency": 2, "max_precondition_dim": 3},
        "pytorch_optimizer.SOAP(params, lr=0.1, precondition_frequency=2, "
        "max_precondition_dim=3, weight_decay=0.0)",
        1e-6,
    ),
]

PLACES = {"Muon": [0, 1], "Shampoo": [0, 1], "SOAP": [1]}
"""Which of the arrays are trained, where not all are."""


def path_of(call: str, start: list[np.ndarray], grads: list[list[np.ndarray]]) -> list[Any]:
    """Return the parameters after each step of what a call makes."""
    params = [torch.nn.Parameter(torch.tensor(p)) for p in start]
    modules = {"torch": torch, "optax": optax, "keras": keras}
    made = eval(call, {**modules, "pytorch_optimizer": pytorch_optimizer, "params": params})
    path: list[Any] = []
    if isinstance(made, torch.optim.Optimizer):
        for row in grads:
            for p, g in zip(params, row, strict=True):
                p.grad = torch.tensor(g)
            made.step()
            path.append([p.detach().numpy().copy() for p in params])
        return path
    if isinstance(made, keras.optimizers.Optimizer):
        variables = [keras.Variable(p, dtype="float64") for p in start]
        for row in grads:
            made.apply([keras.ops.convert_to_tensor(g, "float64") for g in row], variables)
            path.append([np.array(v.numpy()) for v in variables])
        return path
    q = [jnp.asarray(p) for p in start]
    state = made.init(q)
    for row in grads:
        updates, state = made.update([jnp.asarray(g) for g in row], state, q)
        q = optax.apply_updates(q, updates)
        path.append([np.asarray(p) for p in q])
    return path


def main() -> None:
    """Write both files."""
    arrays = {f"start/{i}": p for i, p in enumerate(START)}
    arrays |= {
        f"gradients/{i}": np.array([row[i] for row in GRADIENTS]) for i in range(len(SHAPES))
    }
    cases = []
    for name, ours, call, tolerance in CASES:
        package = call.partition(".")[0]
        places = PLACES.get(name, list(range(len(SHAPES))))
        path = f"{len(cases):02d}_{name}"
        start, rows = [START[i] for i in places], [[row[i] for i in places] for row in GRADIENTS]
        steps = path_of(call, start, rows)
        arrays |= {
            f"{path}/{i}": np.array([step[k] for step in steps]) for k, i in enumerate(places)
        }
        cases.append(
            {
                "optimizer": name,
                "hyperparameters": ours,
                "package": package,
                "version": importlib.metadata.version(package).partition("+")[0],
                "call": call,
                "path": path,
                "arrays": places,
                "tolerance": tolerance,
            }
        )
    target = Path(__file__).with_suffix(".json")
    target.write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")
    np.savez_compressed(target.with_suffix(".npz"), **arrays)


if __name__ == "__main__":
    main()
