"""Measure the optimizers on three problems that ship with scikit-learn: ``which_optimizer.rst``.

``python docs/which_measured.py`` writes anew the table and the picture of that page, and the
numbers from which the page of each optimizer gets its curve; ``NAME ...`` after it measures these
alone, and keeps the others.
"""

from __future__ import annotations

import datetime
import json
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import arrayoptim as ao

FOLDER = Path(__file__).parent / "which"
RECORD = FOLDER / "curves.json"
DRAWN = ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "Nadam", "Lion", "LAMB", "Ftrl", "Rprop")
DRAWN += ("Muon", "SOAP", "ScheduleFreeAdamW", "Prodigy", "DoG")
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
OWN_RATE = ("Prodigy", "DoG")
EPOCHS, BATCH = 15, 64

Curves = dict[str, dict[str, tuple[float | None, list[float]]]]
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
                grads = loss(params, x[rows], y[rows])[1]
                params = optimizer.apply(grads, params)
                if isinstance(optimizer, ao.Sophia) and begin % (10 * BATCH) == 0:
                    estimates = {path: BATCH * g * g for path, g in grads.items()}
                    optimizer.update_hessian(estimates, params)
            losses.append(loss(params, x, y)[0])
    return np.nan_to_num(np.array(losses), nan=np.inf)


def measured(names: Sequence[str]) -> Curves:
    """Return for each problem and optimizer the best rate, and the losses with it."""
    found: Curves = {}
    for title, problem in problems().items():
        found[title] = {}
        for name in names:
            rates = [None] if name in OWN_RATE else list(RATES)
            runs = [(rate, trained(name, rate, problem)) for rate in rates]
            rate, losses = min(runs, key=lambda run: float(run[1][-1]))
            found[title][name] = rate, [float(f"{loss:.4g}") for loss in losses]
    return found


def recorded() -> tuple[str, Curves]:
    """Return when and where the curves were measured, and the curves."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    return record["where"], record["curves"]


def axes_for(figure: Any, found: Curves) -> list[tuple[Any, str]]:
    """Return axes for each problem, side by side, with its title."""
    made = []
    for axes, title in zip(figure.subplots(1, len(found)), found, strict=True):
        axes.set_yscale("log")
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel("epoch")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        made.append((axes, title))
    made[0][0].set_ylabel("loss over all data")
    return made


def draw(found: Curves, file: Path) -> None:
    """Draw the losses of each problem."""
    from matplotlib.figure import Figure

    colours = ["#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#222222"]
    figure = Figure(figsize=(11, 4), dpi=80, layout="constrained")
    for axes, title in axes_for(figure, found):
        for k, name in enumerate(DRAWN):
            dash = ("-", "--", ":")[k // len(colours)]
            losses = found[title][name][1]
            axes.plot(range(1, EPOCHS + 1), losses, dash, color=colours[k % 7], label=name, lw=1.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right", frameon=False)
    figure.savefig(file)


def draw_one(name: str, found: Curves, file: Path) -> None:
    """Draw the losses of one optimizer in front of all others, for light pages and dark ones."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    grey, style = "#808080", {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}
    style |= {f"{part}.color": grey for part in ("text", "xtick", "ytick")}
    style |= {"axes.edgecolor": grey, "axes.labelcolor": grey}
    with mpl.rc_context(style):
        figure = Figure(figsize=(9, 2.8), layout="constrained")
        for axes, title in axes_for(figure, found):
            for each, (_, losses) in found[title].items():
                ours = each == name
                colour, width = ("#EE7733", 2.0) if ours else (grey, 0.4)
                axes.plot(range(1, EPOCHS + 1), losses, color=colour, lw=width, zorder=2 + ours)
            axes.set_title(f"{title}: {shown(*found[title][name])}", fontsize=9, loc="left")
        figure.savefig(file, transparent=True, metadata={"Date": None})


def where() -> str:
    """Return the day, the versions and the machine."""
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}"
    return f"{datetime.date.today()} with {versions} on {platform.machine()}"


def table(found: Curves, measured_on: str) -> str:
    """Return the table as reStructuredText."""
    lines = [
        f"Measured on {measured_on} by ``docs/which_measured.py``:",
        f"loss over all data after {EPOCHS} epochs of batches of {BATCH}, with the best of",
        f"{len(RATES)} rates from {RATES[0]:g} to {RATES[-1]:g}, which stands beside it. SGD has a",
        "momentum of 0.9.",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
    ]
    known = [name for name in ao.names() if all(name in runs for runs in found.values())]
    for name in ("optimizer", *known):
        cells = [title if name == "optimizer" else shown(*found[title][name]) for title in found]
        lines.append(f"   * - {name if name == 'optimizer' else f'`{name}`'}")
        lines += [f"     - {cell}" for cell in cells]
    return "\n".join(lines) + "\n"


def shown(rate: float | None, losses: list[float]) -> str:
    """Return the last loss, and the rate it was reached with."""
    return f"{losses[-1]:.3g}, " + ("its own rate" if rate is None else f"lr={rate:g}")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    made, day = measured(sys.argv[1:] or ao.names()), where()
    if sys.argv[1:]:
        day, before = recorded()
        made = {title: runs | made[title] for title, runs in before.items()}
    RECORD.write_text(json.dumps({"where": day, "curves": made}) + "\n", encoding="utf-8")
    (FOLDER / "table.inc").write_text(table(made, day), encoding="utf-8")
    draw(made, FOLDER / "curves.png")
