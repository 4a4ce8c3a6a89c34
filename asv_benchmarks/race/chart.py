"""A bar chart of how many times this library is faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from .peer import Contest
from .running import Score

OTHERS, OWN, SLOWER = "#4477aa", "#228833", "#cc6677"
Results = Sequence[tuple[Contest, Sequence[Score]]]


def draw(results: Results, subtitle: str, path: Path) -> None:
    """Draw a panel for each list of shapes, a bar for each peer, slowest last."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    labels, values = _ratios(results)
    columns = 3 if len(values) > 3 else len(values)
    rows = -(-len(values) // columns)
    size = (1.6 + 3.4 * columns, 1.3 + (0.6 + 0.27 * len(labels)) * rows)
    figure, grid = plt.subplots(
        rows, columns, sharex=True, sharey=True, figsize=size, squeeze=False, layout="constrained"
    )
    for axes, (title, ratios) in zip(grid.flat, values.items(), strict=False):
        _panel(axes, title, labels, ratios)
    for axes in list(grid.flat)[len(values) :]:
        axes.set_visible(False)
    title = "One step of Adam: its time in multiples of this library's on NumPy arrays"
    figure.suptitle(f"{title}\n{subtitle}", fontsize=11)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _ratios(results: Results) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Return the labels from the fastest to the slowest, and for each panel the ratios by label."""
    values = {
        contest.heading.split(", ", 1)[1]: {
            score.peer.label: median(score.ratios)
            for score in scores[1:]
            if score.ratios and score.peer.name != "limit"
        }
        for contest, scores in results
    }
    found: dict[str, list[float]] = {}
    for ratios in values.values():
        for label, ratio in ratios.items():
            found.setdefault(label, []).append(ratio)
    return sorted(found, key=lambda label: median(found[label])), values


def _panel(axes: Any, title: str, labels: Sequence[str], ratios: Mapping[str, float]) -> None:
    for place, label in enumerate(labels):
        if label not in ratios:
            axes.text(1.05, place, "not measured", va="center", fontsize=7, color="#777777")
            continue
        ratio = ratios[label]
        color = OWN if label.startswith("this library") else OTHERS if ratio >= 1 else SLOWER
        axes.barh(place, ratio - 1, left=1, color=color, height=0.7)
        number = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
        axes.text(max(ratio, 1.0) * 1.06, place, number, va="center", fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_title(title, fontsize=9)
    axes.tick_params(axis="x", labelsize=8, labelbottom=True)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.18)
    axes.spines[["top", "right", "left"]].set_visible(False)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
