"""Loss curves: small ones for notebooks, and Matplotlib axes for large ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

MOST = 400
"""Maximum number of points of the small curve in a notebook."""

WIDTH, HEIGHT = 320, 80


def pyplot_axes(axes: Any = None) -> Any:
    """Return axes to draw into: those given, or new pyplot axes.

    Raises
    ------
    ModuleNotFoundError
        If Matplotlib is not installed.
    """
    if axes is not None:
        return axes
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'a plot needs Matplotlib (pip install "arrayoptim[plot]")'
        ) from error
    return pyplot.subplots(layout="constrained")[1]


def curve(history: Sequence[float]) -> str:
    """Return the losses as a small SVG image, on a logarithmic scale if all are positive."""
    step = max(1, math.ceil(len(history) / MOST))
    losses = [x for x in history[::step] if math.isfinite(x)]
    if len(losses) < 2:
        return ""
    values = [math.log(x) for x in losses] if min(losses) > 0 else losses
    low, high = min(values), max(values)
    across, down = WIDTH / (len(values) - 1), (HEIGHT - 4) / (high - low or 1)
    points = " ".join(f"{across * i:.1f},{2 + down * (high - y):.1f}" for i, y in enumerate(values))
    return (
        f"<svg width='{WIDTH}' height='{HEIGHT}' role='img' aria-label='loss over the steps'>"
        f"<polyline points='{points}' fill='none' stroke='#4477AA' stroke-width='1.5'/></svg>"
    )
