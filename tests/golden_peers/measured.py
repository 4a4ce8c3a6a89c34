"""Record 20 steps of public implementations of rules that measure whole tensors.

``python tests/golden_peers/measured.py`` writes ``measured.json`` beside itself: what was called,
and what came out. It needs torch, jax, optax, pytorch_optimizer, prodigyopt, dog-optimizer and
timm, and not this library. Everything is computed in float64.

Where conventions differ, the call or our hyperparameters make up for it:

- timm's AdamW decays before the step and adds epsilon to the corrected root: there ``eps=0``.
- optax and dog-optimizer add the weight decay of DoG to the gradient, which is `l2` here.
- The layer-wise form of DoG is a group for each tensor here; the names of these stand for groups.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import dog
import jax
import jax.numpy as jnp
import numpy as np
import optax
import prodigyopt
import pytorch_optimizer
import timm.optim
import torch

jax.config.update("jax_enable_x64", True)
torch.set_default_dtype(torch.float64)

STEPS, SHAPES = 20, [(3, 4), (5,), ()]
RANDOM = np.random.default_rng(7)
START = [RANDOM.normal(size=shape) for shape in SHAPES]
GRADIENTS = [
    [RANDOM.normal(size=shape) * 10 ** RANDOM.uniform(-2, 1, size=shape) for shape in SHAPES]
    for _ in range(STEPS)
]

BETAS = {"beta_1": 0.8, "beta_2": 0.95}
CASES: list[tuple[str, dict[str, Any], str]] = [
    ("StableAdamW", {}, "pytorch_optimizer.StableAdamW(params, weight_decay=0.0)"),
    (
        "StableAdamW",
        {"lr": 0.1, **BETAS, "epsilon": 1e-3, "weight_decay": 0.2},
        "pytorch_optimizer.StableAdamW(params, lr=0.1, betas=(0.8, 0.95), eps=1e-3, "
        "weight_decay=0.2)",
    ),
    (
        "AdamW",
        {"lr": 0.1, **BETAS, "epsilon": 0.0, "weight_decay": 0.2, "cautious": True},
        "timm.optim.AdamWLegacy(params, lr=0.1, betas=(0.8, 0.95), eps=0, weight_decay=0.2, "
        "caution=True)",
    ),
    (
        "Lion",
        {"lr": 0.1, **BETAS, "weight_decay": 0.2, "cautious": True},
        "timm.optim.Lion(params, lr=0.1, betas=(0.8, 0.95), weight_decay=0.2, caution=True)",
    ),
    (
        "DoG",
        {"reps_rel": 1e-2},
        "optax.contrib.dog(init_step=('heuristic', 1e-2))",
    ),
    (
        "DoG",
        {"lr": 0.5, "reps_rel": 1e-3, "epsilon": 1e-2, "l2": 0.1},
        "dog.DoG(params, reps_rel=1e-3, lr=0.5, weight_decay=0.1, eps=1e-2)",
    ),
    (
        "DoG",
        {"reps_rel": 1e-2, "groups": ["0", "1"]},
        "dog.LDoG(params, reps_rel=1e-2)",
    ),
    (
        "Prodigy",
        {"d0": 1e-3, "bias_correction": True},
        "optax.contrib.prodigy(estim_lr0=1e-3)",
    ),
    (
        "Prodigy",
        {"lr": 0.5, **BETAS, "epsilon": 1e-3, "d0": 1e-2, "d_coef": 0.7, "weight_decay": 0.2},
        "prodigyopt.Prodigy(params, lr=0.5, betas=(0.8, 0.95), eps=1e-3, d0=1e-2, d_coef=0.7, "
        "weight_decay=0.2)",
    ),
    (
        "Prodigy",
        {"d0": 1e-2, "growth_rate": 1.1, "bias_correction": True, "safeguard_warmup": True},
        "prodigyopt.Prodigy(params, d0=1e-2, growth_rate=1.1, use_bias_correction=True, "
        "safeguard_warmup=True)",
    ),
]
PACKAGES = {
    "dog": "dog-optimizer",
    "optax": "optax",
    "prodigyopt": "prodigyopt",
    "pytorch_optimizer": "pytorch_optimizer",
    "timm": "timm",
}


def path_of(call: str) -> list[list[Any]]:
    """Return the parameters after each step of what a call makes."""
    params = [torch.nn.Parameter(torch.tensor(p)) for p in START]
    modules = {"dog": dog, "optax": optax, "prodigyopt": prodigyopt, "timm": timm}
    made = eval(call, {**modules, "pytorch_optimizer": pytorch_optimizer, "params": params})
    path = []
    if isinstance(made, torch.optim.Optimizer):
        for row in GRADIENTS:
            for p, g in zip(params, row, strict=True):
                p.grad = torch.tensor(g)
            made.step()
            path.append([p.detach().numpy().tolist() for p in params])
        return path
    tree = [jnp.asarray(p) for p in START]
    state = made.init(tree)
    for row in GRADIENTS:
        updates, state = made.update([jnp.asarray(g) for g in row], state, tree)
        tree = optax.apply_updates(tree, updates)
        path.append([np.asarray(p).tolist() for p in tree])
    return path


def main() -> None:
    """Write the file."""
    runs = []
    for name, ours, call in CASES:
        package = PACKAGES[call.partition(".")[0]]
        version = importlib.metadata.version(package)
        source = {"package": package, "version": version, "call": call}
        runs.append({"name": name, "kwargs": ours, **source, "path": path_of(call)})
    recording = {
        "start": [p.tolist() for p in START],
        "grads": [[g.tolist() for g in row] for row in GRADIENTS],
        "runs": runs,
    }
    target = Path(__file__).with_suffix(".json")
    target.write_text(json.dumps(recording) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
