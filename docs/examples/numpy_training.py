"""
A training in NumPy with a stop on the way
==========================================

A small network is trained, stopped halfway and resumed from its file, to the same end. Biases have
a learning rate of their own, and the weights shrink.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import arrayoptim as ao

Params = dict[str, dict[str, np.ndarray]]


def start() -> Params:
    """Make the parameters."""
    random = np.random.default_rng(0)
    sizes = {"hidden": (2, 16), "output": (16, 1)}
    return {k: {"kernel": random.normal(size=s), "bias": np.zeros(s[1])} for k, s in sizes.items()}


def loss_and_grads(params: Params, step: int) -> tuple[float, Params]:
    """Return the error of the product of two numbers, and its gradients."""
    x = np.random.default_rng(step).random((64, 2))
    hidden = np.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    y = hidden @ params["output"]["kernel"] + params["output"]["bias"]
    error = y - x.prod(axis=1, keepdims=True)
    slope = 2 * error / len(x)
    back = (slope @ params["output"]["kernel"].T) * (1 - hidden**2)
    grads = {
        "hidden": {"kernel": x.T @ back, "bias": back.sum(axis=0)},
        "output": {"kernel": hidden.T @ slope, "bias": slope.sum(axis=0)},
    }
    return float(np.mean(error**2)), grads


def train(optimizer: ao.Optimizer, params: Params, steps: range) -> float:
    """Step; the parameters are updated in place."""
    for step in steps:
        loss, grads = loss_and_grads(params, step)
        optimizer.apply(grads, params)
    return loss


# %%
# Once without a stop, once with one.

if __name__ == "__main__":
    groups = [ao.group("*/bias", lr=0.02, weight_decay=0.0)]
    settings = {"lr": ao.schedules.CosineDecay(0.05, 400), "weight_decay": 1e-4, "groups": groups}
    whole = train(ao.Adam(**settings), start(), range(400))
    optimizer, params = ao.Adam(**settings), start()
    train(optimizer, params, range(200))
    with tempfile.TemporaryDirectory() as folder:
        optimizer.save_weights(Path(folder) / "optimizer.h5")
        again = ao.load(Path(folder) / "optimizer.h5")
        resumed = train(again, params, range(200, 400))
    print(f"loss after 400 steps: {whole:.6f}; stopped half-way and resumed: {resumed:.6f}")
    assert resumed == whole < 0.01
