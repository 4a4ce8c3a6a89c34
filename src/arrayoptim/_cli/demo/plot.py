"""The loss curves as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .course import Course
from .data import Floats, Problem

# Paul Tol's "bright" scheme without its grey, then more: told apart by colour-blind readers too.
COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#222222", "#EE7733")
DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))


def draw(courses: Sequence[Course], problem: Problem, backend: str, file: Path) -> None:
    """Draw one curve per optimizer, and the resumed run on top of it as open circles.

    Parameters
    ----------
    courses : sequence of Course
        What became of each optimizer.
    problem : Problem
        Tells where epochs and the checkpoint are.
    backend : str
        Where the uninterrupted runs took place.
    file : Path
        The PNG to write.
    """
    # The object interface draws without a display and leaves the caller's pyplot alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ranked = sorted(enumerate(courses), key=lambda entry: -entry[1].final_loss)
    for place, course in ranked:
        _curve(axes, place, course, problem)
    _furnish(axes, courses, problem, backend)
    figure.savefig(file)


def smooth(losses: Floats, window: int) -> Floats:
    """Average over the steps before, as many as one epoch has.

    Parameters
    ----------
    losses : ndarray
        The loss of each step.
    window : int
        The number of steps to average over; fewer at the beginning.

    Returns
    -------
    ndarray
        As long as `losses`.
    """
    sums = np.concatenate([[0.0], np.cumsum(losses, dtype=np.float64)])
    ends = np.arange(1, len(losses) + 1)
    begins = np.maximum(ends - window, 0)
    means: Floats = ((sums[ends] - sums[begins]) / (ends - begins)).astype(np.float32)
    return means


def _curve(axes: Any, place: int, course: Course, problem: Problem) -> None:
    """Draw one optimizer's losses."""
    colour = COLOURS[place % len(COLOURS)]
    dash = DASHES[(place // len(COLOURS) + place) % len(DASHES)]
    per_epoch = problem.steps_per_epoch
    epochs = np.arange(1, len(course.losses) + 1) / per_epoch
    label = f"{course.name}  ({course.settings})"
    axes.plot(epochs, smooth(course.losses, per_epoch), color=colour, ls=dash, lw=1.8, label=label)
    losses = np.concatenate([course.losses[: problem.half], course.resumed[-1].losses])
    marks = slice(problem.half + per_epoch // 2, None, max(1, per_epoch))
    axes.plot(
        epochs[: len(losses)][marks],
        smooth(losses, per_epoch)[marks],
        color=colour,
        ls="none",
        marker="o",
        ms=4.5,
        mfc="white",
        mew=1.2,
    )


def _furnish(axes: Any, courses: Sequence[Course], problem: Problem, backend: str) -> None:
    """Add scales, labels, the checkpoint's line and the legend."""
    from matplotlib.ticker import MaxNLocator

    where = courses[0].resumed[-1].backend
    half = problem.half / problem.steps_per_epoch
    axes.axvline(half, color="#888888", lw=1)
    axes.annotate(
        "checkpoint",
        (half, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -4),
        textcoords="offset points",
        va="top",
        color="#555555",
    )
    axes.set_yscale("log")
    axes.set_xlim(0, len(problem.batches) / problem.steps_per_epoch)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("training cross-entropy, mean over the last epoch")
    axes.set_title(
        f"Handwritten digits, 64-64-10 network. Lines: {backend}, never stopped. "
        f"Circles: resumed on {where}",
        fontsize=11,
        loc="left",
    )
    axes.grid(which="major", color="#dddddd", lw=0.8)
    axes.grid(which="minor", color="#eeeeee", lw=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles, labels, title="from highest to lowest", frameon=False, loc="lower left")
