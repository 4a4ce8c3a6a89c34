"""Record optax's LAMB and LARS: ``python layerwise.py`` writes ``layerwise.json``."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import optax

SHAPES = [(3, 4), (5,), (1,)]
STEPS = 20
CASES = {
    "LAMB": [
        ({"lr": 0.02, "epsilon": 1e-6}, optax.lamb(0.02, eps=1e-6)),
        (
            {"lr": 0.01, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3, "weight_decay": 0.1},
            optax.lamb(0.01, b1=0.8, b2=0.95, eps=1e-3, weight_decay=0.1),
        ),
    ],
    # With weight decay optax divides by the norm of the sum, the paper by the sum of the norms.
    "LARS": [
        (
            {"lr": 0.5, "momentum": 0.8, "trust_coefficient": 0.05, "epsilon": 1e-3},
            optax.lars(0.5, momentum=0.8, trust_coefficient=0.05, eps=1e-3),
        ),
    ],
}


def run(tx: optax.GradientTransformation, start: list[np.ndarray], grads: list) -> list:
    """Return the parameters after every step."""
    params = [jax.numpy.asarray(p) for p in start]
    state, path = tx.init(params), []
    for step in grads:
        updates, state = tx.update([jax.numpy.asarray(g) for g in step], state, params)
        params = optax.apply_updates(params, updates)
        path.append([np.asarray(p).tolist() for p in params])
    return path


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape) for shape in SHAPES]
    grads = [[rng.standard_normal(shape) for shape in SHAPES] for _ in range(STEPS)]
    runs = [
        {"name": name, "kwargs": kwargs, "path": run(tx, start, grads)}
        for name, cases in CASES.items()
        for kwargs, tx in cases
    ]
    recording = {
        "provenance": f"optax {optax.__version__}, jax {jax.__version__}, float64",
        "start": [p.tolist() for p in start],
        "grads": [[g.tolist() for g in step] for step in grads],
        "runs": runs,
    }
    target = Path(__file__).with_name("layerwise.json")
    target.write_text(json.dumps(recording) + "\n", encoding="utf-8")
