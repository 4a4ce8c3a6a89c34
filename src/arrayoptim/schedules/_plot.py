"""Plots of schedules."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

MOST = 2000
"""Maximum number of evaluated steps; straight lines connect them."""


def plot(schedule: Callable[[Any], Any], steps: int, path: str | os.PathLike[str]) -> None:
    """Plot a schedule over the steps of a run.

    Parameters
    ----------
    schedule : callable
        A function of the step; `Plateau` is plotted as before the first metric.
    steps : int in [1, inf)
        Number of steps.
    path : str or Path
        The image file, whose suffix selects the format, such as ``.png``; it is overwritten.

    Raises
    ------
    ModuleNotFoundError
        If Matplotlib is not installed.
    TypeError
        If `schedule` is not callable, or `steps` is not an integer.
    ValueError
        If there are no steps, a value is not finite, or Matplotlib does not know the format.
    """
    if not callable(schedule):
        raise TypeError(f"schedules.plot: found {schedule!r}, wanted a function of the step")
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise TypeError(f"schedules.plot: found {steps!r} steps, wanted an integer")
    if steps < 1:
        raise ValueError(f"schedules.plot: found {steps} steps, wanted 1 or more")
    marks, values = _curve(schedule, steps)
    try:
        # The object interface draws without a display and leaves the caller's pyplot alone.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'schedules.plot needs Matplotlib; install it, or "arrayoptim[plot]"'
        ) from error
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(marks, values, "o-" if steps <= 30 else "-", color="#4477AA", lw=1.8, ms=4, zorder=3)
    axes.lines[0].set_clip_on(False)  # the first step and zero lie on the frame
    _furnish(axes, schedule, steps, values)
    figure.savefig(path)


def _curve(schedule: Callable[[Any], Any], steps: int) -> tuple[list[int], list[float]]:
    marks = sorted({round(i * (steps - 1) / (MOST - 1)) for i in range(MOST)})
    values = [float(schedule(step)) for step in marks]
    for step, value in zip(marks, values, strict=True):
        if not abs(value) < float("inf"):
            raise ValueError(f"{schedule!r} is {value} at step {step}, wanted a finite number")
    return marks, values


def _furnish(axes: Any, schedule: Any, steps: int, values: list[float]) -> None:
    from textwrap import fill

    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0, steps)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if min(values) >= 0.0:
        axes.set_ylim(bottom=0.0)
    axes.set_xlabel("step")
    axes.set_ylabel("value")
    axes.set_title(fill(repr(schedule), 90, max_lines=4), fontsize=9, loc="left")
    axes.grid(color="#dddddd", lw=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
