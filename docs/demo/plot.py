"""The loss curves as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .course import Course
from .data import Floats, Problem

# Paul Tol's "bright" scheme: told apart by colour-blind readers too.
COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377")
DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), "-", (0, (6, 2)))

TOGETHER = len(COLOURS)
"""Most optimizers in one pair of axes; more get small axes of their own."""

ACROSS = 6
"""Most small axes in a row."""


def draw(courses: Sequence[Course], problem: Problem, backend: str, file: Path) -> None:
    """Draw the losses of each optimizer, and the resumed run on top of them as open circles.

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
    figure(courses, problem, backend).savefig(file)


def figure(courses: Sequence[Course], problem: Problem, backend: str) -> Any:
    """Return the picture, laid out.

    Parameters
    ----------
    courses, problem, backend
        As for `draw`.

    Returns
    -------
    matplotlib.figure.Figure
        Few optimizers have one pair of axes with a legend beside, many have small ones.
    """
    # The object interface draws without a display and leaves the caller's pyplot alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    where = courses[0].resumed[-1].backend
    title = f"Handwritten digits, 64-64-10 network, on {backend}. "
    title += "Circles: gone on from a checkpoint"
    title += f" in {where}" * (where != backend)
    if len(courses) <= TOGETHER:
        drawn = Figure(figsize=(10, 5), dpi=150, layout="constrained")
        _together(drawn, courses, problem)
    else:
        rows = -(-len(courses) // ACROSS)
        drawn = Figure(figsize=(12, 1.0 + 1.55 * rows), dpi=150, layout="constrained")
        _apart(drawn, rows, courses, problem)
    drawn.suptitle(title, fontsize=11, x=0.01, ha="left")
    FigureCanvasAgg(drawn)
    return drawn


def _together(drawn: Any, courses: Sequence[Course], problem: Problem) -> None:
    """Draw few optimizers in one pair of axes, with a legend beside."""
    axes = drawn.add_subplot()
    ranked = sorted(enumerate(courses), key=lambda entry: -entry[1].final_loss)
    for place, course in ranked:
        line = _curve(axes, course, problem, COLOURS[place], DASHES[place])
        line.set_label(f"{course.name}\n{course.settings}")
    _furnish(axes, problem)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training cross-entropy, mean over the last epoch")
    drawn.legend(loc="outside right upper", title="from highest to lowest", frameon=False)


def _apart(drawn: Any, rows: int, courses: Sequence[Course], problem: Problem) -> None:
    """Draw each of many optimizers in small axes, in front of all the others."""
    grid = drawn.subplots(rows, ACROSS, sharex=True, sharey=True, squeeze=False)
    curves = [smooth(course.losses, problem.steps_per_epoch) for course in courses]
    for axes, course in zip(grid.flat, courses, strict=False):
        for curve in curves:
            axes.plot(_epochs(curve, problem), curve, color="#dddddd", lw=0.6)
        _curve(axes, course, problem, COLOURS[0], "-", size=2.5)
        _furnish(axes, problem)
        axes.set_title(f"{course.name}  {course.settings}", fontsize=7, loc="left", pad=3)
        axes.tick_params(labelsize=7)
    for axes in grid.flat[len(courses) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, len(courses) - ACROSS) : len(courses)]:
        axes.tick_params(labelbottom=True)  # nothing stands below
    drawn.supxlabel("epoch", fontsize=9)
    drawn.supylabel("training cross-entropy, mean over the last epoch", fontsize=9)


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


def _epochs(losses: Floats, problem: Problem) -> Floats:
    found = np.arange(1, len(losses) + 1) / problem.steps_per_epoch
    return found.astype(np.float32)


def _curve(
    axes: Any, course: Course, problem: Problem, colour: str, dash: Any, size: float = 4.5
) -> Any:
    """Draw one optimizer's losses, and return the line."""
    per_epoch = problem.steps_per_epoch
    epochs = _epochs(course.losses, problem)
    curve = smooth(course.losses, per_epoch)
    (line,) = axes.plot(epochs, curve, color=colour, ls=dash, lw=1.8 if size > 4 else 1.3)
    losses = np.concatenate([course.losses[: problem.half], course.resumed[-1].losses])
    marks = slice(problem.half + per_epoch // 2, None, max(1, per_epoch))
    axes.plot(
        epochs[: len(losses)][marks],
        smooth(losses, per_epoch)[marks],
        color=colour,
        ls="none",
        marker="o",
        ms=size,
        mfc="white",
        mew=1.0,
    )
    return line


def _furnish(axes: Any, problem: Problem) -> None:
    """Add scales and the line of the checkpoint."""
    from matplotlib.ticker import MaxNLocator

    axes.axvline(problem.half / problem.steps_per_epoch, color="#888888", lw=0.8)
    axes.set_yscale("log")
    axes.set_xlim(0, len(problem.batches) / problem.steps_per_epoch)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(which="major", color="#eeeeee", lw=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
