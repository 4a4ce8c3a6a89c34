"""The result of a minimization, and how it is displayed."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from typing import Any

from .._typing import Tree
from ..arrays.libraries import backend_of
from ..arrays.trees import flatten
from .curves import curve, pyplot_axes


@dataclass(repr=False)
class Minimization:
    """The result of `minimize`, or its progress so far.

    Attributes
    ----------
    params : tree of arrays
        The parameters after the last step.
    history : list of float
        The loss before each step.
    steps : int
        Steps taken, including those of a checkpoint.
    reason : str
        Why it stopped: "steps", "patience", "callback", "nonfinite", "interrupted", or with `LBFGS`
        "converged" or "stuck"; empty while running.
    message : str
        The same in a sentence.
    optimizer : Optimizer, wrapper or native optimizer
        The optimizer.
    """

    params: Tree
    history: list[float] = field(default_factory=list)
    steps: int = 0
    reason: str = ""
    message: str = ""
    optimizer: Any = field(default=None, compare=False)

    def __repr__(self) -> str:
        """Return one line with steps, loss, the reason to stop and the number of parameters."""
        why = f", {self.reason!r}" if self.reason else ""
        return f"Minimization({self.steps} steps{self._losses()}{why}, {self._arrays()})"

    def _repr_html_(self) -> str:
        """Return the summary with the curve of the loss, for notebooks."""
        rows = {
            "steps": f"{self.steps:,}",
            "loss": self._losses().removeprefix(", loss ") or "none yet",
            "parameters": self._arrays(),
            "stopped": self.message or "not yet",
        }
        cells = "".join(
            f"<tr><th style='text-align:left'>{name}</th>"
            f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
            for name, text in rows.items()
        )
        return f"<div><table>{cells}</table>{curve(self.history)}</div>"

    def plot(self, axes: Any = None) -> Any:
        """Draw the loss over the steps.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            Where to draw; new axes of pyplot if None.

        Returns
        -------
        matplotlib.axes.Axes
            The axes, to which more may be added; ``axes.figure.savefig(path)`` writes them.

        Raises
        ------
        ModuleNotFoundError
            If Matplotlib is not installed.
        """
        axes = pyplot_axes(axes)
        axes.plot(range(len(self.history)), self.history)
        if self.history and min(self.history) > 0:
            axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        return axes

    def _losses(self) -> str:
        if not self.history:
            return ""
        return f", loss {self.history[0]:.4g} to {self.history[-1]:.4g}"

    def _arrays(self) -> str:
        leaves = [x for x in flatten(self.params)[0] if x is not None]
        first = f" of {backend_of(leaves[0]).name}" if leaves else ""
        entries = sum(math.prod(x.shape) for x in leaves)
        return f"{len(leaves)} array{'s' * (len(leaves) != 1)}{first}, {entries:,} parameters"
