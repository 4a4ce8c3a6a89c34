"""The pictures of the page *Reading a run*, each from a run: ``python docs/pictures.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

import arrayoptim as ao

HERE = Path(__file__).parent / "pictures"
COUNT = 256


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return points of the plane, and on which of two interleaved spirals each of them is."""
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT) % 2
    way = rng.uniform(0.5, 3.0, COUNT)
    angle = 1.5 * way + np.pi * labels
    points = np.stack([way * np.cos(angle), way * np.sin(angle)], axis=1)
    wrong = rng.random(COUNT) < 0.1
    return points + 0.1 * rng.normal(size=points.shape), np.where(wrong, 1.0 - labels, labels)


def weights() -> dict[str, np.ndarray]:
    """Return a network of two layers before training."""
    rng = np.random.default_rng(1)
    return {"hidden": rng.normal(size=(3, 32)), "out": 0.1 * rng.normal(size=33)}


def loss_of(points: np.ndarray, labels: np.ndarray, params: dict[str, Any]) -> tuple[float, Any]:
    """Return the cross entropy and its gradients."""
    ones = np.ones((len(points), 1))
    x = np.hstack([points, ones])
    h = np.hstack([np.tanh(x @ params["hidden"]), ones])
    z = h @ params["out"]
    value = float(np.mean(np.logaddexp(0.0, z) - labels * z))
    dz = (1.0 / (1.0 + np.exp(-z)) - labels) / len(points)
    dh = np.outer(dz, params["out"][:-1]) * (1.0 - h[:, :-1] ** 2)
    return value, {"hidden": x.T @ dh, "out": h.T @ dz}


def batches(spikes: bool = False) -> Any:
    """Return a loss that takes another batch at each call; some are out of all proportion."""
    points, labels = data()
    rng = np.random.default_rng(2)
    calls = iter(range(10**6))

    def loss(params: dict[str, Any]) -> tuple[float, Any]:
        chosen = rng.integers(COUNT, size=64)
        value, grads = loss_of(points[chosen], labels[chosen], params)
        scale = 500.0 if spikes and next(calls) % 150 == 149 else 1.0
        return scale * value, {name: scale * g for name, g in grads.items()}

    return loss


def trained(optimizer: Any, steps: int = 600, spikes: bool = False) -> ao.callbacks.History:
    """Train, and return what was recorded."""
    history = ao.callbacks.History()
    ao.minimize(batches(spikes), weights(), optimizer, steps, callback=history)
    return history


def save(axes: Any, name: str) -> None:
    """Write a picture."""
    axes.figure.set_size_inches(6.4, 3.6)
    axes.figure.savefig(HERE / f"{name}.png", dpi=100)


def main() -> None:
    """Draw all of them."""
    mpl.use("agg")
    HERE.mkdir(exist_ok=True)
    save(ao.find_lr(batches(), weights(), "sgd", low=1e-3, high=300.0).plot(), "find_lr")
    history = trained(ao.Adam(0.01, measure=("gradient", "update", "weight")))
    save(history.plot("gradient", "update", "weight"), "norms")
    options = {"lr": ao.schedules.CosineDecay(0.5, 600, warmup_steps=60), "momentum": 0.9}
    free = trained(ao.SGD(**options), spikes=True)
    guarded = trained(ao.SGD(**options, skip_spikes=6.0, spike_window=64), spikes=True)
    axes = free.plot("loss")
    axes.set_ylim(0.03, 30.0)
    axes.lines[0].set_label("nothing skipped")
    guarded.plot("loss", axes=axes)
    axes.lines[1].set_label(f"skip_spikes=6, {guarded.numbers['spikes'][-1][1]:.0f} skipped")
    axes.legend()
    save(axes, "spikes")


if __name__ == "__main__":
    main()
