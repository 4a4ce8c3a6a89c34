"""Measure the optimizers on three problems that ship with scikit-learn: ``which_optimizer.rst``.

``python docs/which_measured.py`` writes the table and the picture anew.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import arrayoptim as ao

FOLDER = Path(__file__).parent / "which"
NAMES = ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "Nadam", "Lion", "LAMB", "Ftrl", "Rprop")
NAMES += ("Muon", "SOAP", "ScheduleFreeAdamW", "Prodigy", "DoG")
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
OWN_RATE = ("Prodigy", "DoG")
EPOCHS, BATCH = 15, 64

Loss = Callable[[dict[str, Any], Any, Any], tuple[float, dict[str, Any]]]


def softmax_network(params: dict[str, Any], x: Any, y: Any) -> tuple[float, dict[str, Any]]:
    """Return the cross-entropy of a network with one layer between, and its gradients."""
    h = np.tanh(x @ params["inner"] + params["inner_bias"])
    z = h @ params["outer"] + params["outer_bias"]
    z -= z.max(axis=1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    d = (p - y) / len(y)
    dh = d @ params["outer"].T * (1 - h * h)
    grads = {"inner": x.T @ dh, "inner_bias": dh.sum(0), "outer": h.T @ d, "outer_bias": d.sum(0)}
    return float(-np.mean(np.log(np.sum(p * y, axis=1) + 1e-12))), grads


def logistic(params: dict[str, Any], x: Any, y: Any) -> tuple[float, dict[str, Any]]:
    """Return the cross-entropy of a logistic regression, and its gradients."""
    z = x @ params["weight"] + params["bias"]
    d = (1 / (1 + np.exp(-z)) - y) / len(y)
    return float(np.mean(np.logaddexp(0, z) - y * z)), {"weight": x.T @ d, "bias": d.sum(0)}


def linear(params: dict[str, Any], x: Any, y: Any) -> tuple[float, dict[str, Any]]:
    """Return the mean square of a linear regression, and its gradients."""
    d = x @ params["weight"] + params["bias"] - y
    return float(np.mean(d * d)), {"weight": 2 * x.T @ d / len(y), "bias": 2 * d.mean(0)}


def problems() -> dict[str, tuple[Loss, dict[str, Any], Any, Any]]:
    """Return for each problem its loss, where to begin, and the data."""
    from sklearn import datasets

    rng = np.random.default_rng(0)
    x, labels = datasets.load_digits(return_X_y=True)
    start = {
        "inner": rng.normal(scale=0.1, size=(64, 64)),
        "inner_bias": np.zeros(64),
        "outer": rng.normal(scale=0.1, size=(64, 10)),
        "outer_bias": np.zeros(10),
    }
    found: dict[str, tuple[Loss, dict[str, Any], Any, Any]] = {
        "digits, a network": (softmax_network, start, x / 16, np.eye(10)[labels])
    }
    for name, load, loss in (
        ("breast cancer, logistic", datasets.load_breast_cancer, logistic),
        ("diabetes, linear", datasets.load_diabetes, linear),
    ):
        x, y = load(return_X_y=True)
        y = y if loss is logistic else (y - y.mean()) / y.std()
        begin = {"weight": np.zeros((x.shape[1], 1)), "bias": np.zeros(1)}
        found[name] = (loss, begin, (x - x.mean(0)) / x.std(0), y[:, None])
    return found


def trained(name: str, lr: float | None, problem: tuple[Loss, dict[str, Any], Any, Any]) -> Any:
    """Return the loss over all data after each epoch."""
    loss, start, x, y = problem
    rng = np.random.default_rng(1)
    optimizer = ao.get({"class_name": name, "config": {} if lr is None else {"lr": lr}})
    if name == "SGD":
        optimizer.momentum = 0.9
    params, losses = {k: v.copy() for k, v in start.items()}, []
    with np.errstate(all="ignore"):
        for _ in range(EPOCHS):
            order = rng.permutation(len(x))
            for begin in range(0, len(x), BATCH):
                rows = order[begin : begin + BATCH]
                params = optimizer.apply(loss(params, x[rows], y[rows])[1], params)
            losses.append(loss(params, x, y)[0])
    return np.nan_to_num(np.array(losses), nan=np.inf)


def measured() -> dict[str, dict[str, tuple[float | None, Any]]]:
    """Return for each problem and optimizer the best rate, and the losses with it."""
    found: dict[str, dict[str, tuple[float | None, Any]]] = {}
    for title, problem in problems().items():
        found[title] = {}
        for name in NAMES:
            rates = [None] if name in OWN_RATE else list(RATES)
            runs = [(rate, trained(name, rate, problem)) for rate in rates]
            found[title][name] = min(runs, key=lambda run: float(run[1][-1]))
    return found


def draw(found: dict[str, dict[str, tuple[float | None, Any]]], file: Path) -> None:
    """Draw the losses of each problem."""
    from matplotlib.figure import Figure

    colours = ["#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#222222"]
    figure = Figure(figsize=(11, 4), dpi=120, layout="constrained")
    for axes, (title, runs) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        for k, (name, (_, losses)) in enumerate(runs.items()):
            dash = ("-", "--", ":")[k // len(colours)]
            axes.plot(range(1, EPOCHS + 1), losses, dash, color=colours[k % 7], label=name, lw=1.3)
        axes.set_yscale("log")
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel("epoch")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.axes[0].set_ylabel("loss over all data")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right", frameon=False)
    figure.savefig(file)


def table(found: dict[str, dict[str, tuple[float | None, Any]]]) -> str:
    """Return the table as reStructuredText."""
    day, versions = (
        datetime.date.today(),
        f"Python {platform.python_version()}, NumPy {np.__version__}",
    )
    lines = [
        f"Measured on {day} by ``docs/which_measured.py`` with {versions} on {platform.machine()}:",
        f"loss over all data after {EPOCHS} epochs of batches of {BATCH}, with the best of",
        f"{len(RATES)} rates from {RATES[0]:g} to {RATES[-1]:g}, which stands beside it.",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
    ]
    for name in ("optimizer", *NAMES):
        cells = [title if name == "optimizer" else shown(*found[title][name]) for title in found]
        lines.append(f"   * - {name if name == 'optimizer' else f'`{name}`'}")
        lines += [f"     - {cell}" for cell in cells]
    return "\n".join(lines) + "\n"


def shown(rate: float | None, losses: Any) -> str:
    """Return the last loss, and the rate it was reached with."""
    return f"{losses[-1]:.3g}, " + ("its own rate" if rate is None else f"lr={rate:g}")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    results = measured()
    (FOLDER / "table.inc").write_text(table(results), encoding="utf-8")
    draw(results, FOLDER / "curves.png")
