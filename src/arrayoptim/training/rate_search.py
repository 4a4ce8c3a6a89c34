"""A search for the learning rate: a short run on copies with a rate that grows at every step."""

from __future__ import annotations

import copy
import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._typing import Tree
from ..arrays.derivatives import value_and_gradients
from ..arrays.libraries import backend_of
from ..arrays.trees import flatten
from ..config.validation import whole
from ..finding import get
from .curves import curve, pyplot_axes
from .minimize import number_of

__all__ = ["RateSearch", "find_lr"]


@dataclass(frozen=True, repr=False)
class RateSearch:
    """The result of `find_lr`.

    Attributes
    ----------
    rates, losses : tuple of float
        The learning rates, and the loss before the step with each of them.
    smooth : tuple of float
        The losses, averaged over neighbours.
    suggestion : float or None
        The rate at which the averaged loss falls most steeply, per factor of the rate; None if it
        does not fall.
    reason : str
        Why the search ended: ``"steps"``, ``"diverged"`` or ``"nonfinite"``.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smooth: tuple[float, ...]
    suggestion: float | None
    reason: str

    def __repr__(self) -> str:
        """Return one line with the rates that were tried and the suggestion."""
        tried = f"{self.rates[0]:.3g} to {self.rates[-1]:.3g}" if self.rates else "none"
        found = "none" if self.suggestion is None else f"{self.suggestion:.3g}"
        return f"RateSearch({len(self.rates)} rates, {tried}, {self.reason!r}, suggestion={found})"

    def _repr_html_(self) -> str:
        """Return the line with the curve, for notebooks."""
        return f"<div><code>{html.escape(repr(self))}</code><br>{curve(self.smooth)}</div>"

    def plot(self, axes: Any = None) -> Any:
        """Draw the losses over the rates, with the suggestion.

        Parameters
        ----------
        axes : matplotlib.axes.Axes, optional
            Where to draw; new axes of pyplot if None.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.

        Raises
        ------
        ModuleNotFoundError
            If Matplotlib is not installed.
        """
        axes = pyplot_axes(axes)
        axes.plot(self.rates, self.losses, color="0.75", label="loss")
        axes.plot(self.rates, self.smooth, label="averaged")
        if self.suggestion is not None:
            label = f"suggestion {self.suggestion:.2g}"
            axes.axvline(self.suggestion, color="C1", linestyle="--", label=label)
        axes.set_xscale("log")
        if self.smooth:
            # A divergent run would squeeze the rest of the curve against the axis.
            low, first = min(self.smooth), self.smooth[0]
            margin = 0.1 * (first - low) or 1.0
            axes.set_ylim(low - margin, first + 3.0 * margin)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.legend()
        return axes


def find_lr(
    loss: Callable[[Tree], Any],
    params: Tree,
    optimizer: Any,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    *,
    diverged: float = 4.0,
) -> RateSearch:
    """Try learning rates, each larger than the one before, and suggest one.

    Runs from `low` to `high` on copies: parameters and optimizer are not changed, not even if
    interrupted.

    Parameters
    ----------
    loss : callable
        A function of the parameters, as for `minimize`; a new batch at every call is more
        representative than a single one.
    params : tree of arrays
        The initial parameters.
    optimizer : Optimizer, wrapper, str or dict
        Anything that `get` accepts. Everything but its learning rate matters, its state included.
    low, high : float in (0, inf)
        The first and the last rate.
    steps : int in [8, inf)
        Number of rates to try.
    diverged : float in (1, inf)
        The search ends once the averaged loss exceeds its lowest value by this many times the
        decrease so far, or by this many halves of the first loss, whichever is larger.

    Returns
    -------
    RateSearch
        Rates, losses and the suggestion; ``plot()`` draws them.

    Raises
    ------
    TypeError
        If `loss` is not callable or returns no number, or the optimizer has no learning rate.
    ValueError
        If a number is outside its interval, or the loss does not depend on a parameter.

    References
    ----------
    Smith (2017), Cyclical Learning Rates for Training Neural Networks, section 3.3.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> def loss(x):
    ...     return np.sum((x - 3.0) ** 2), 2.0 * (x - 3.0)
    >>> x, optimizer = np.zeros(2), ao.SGD()
    >>> found = ao.find_lr(loss, x, optimizer, low=1e-4)
    >>> 0.01 < found.suggestion < 1.0, x, optimizer.iterations
    (True, array([0., 0.]), 0)
    """
    _require(loss, low, high, steps, diverged)
    made = copy.deepcopy(get(optimizer))
    if made._searches or not hasattr(made, "lr"):
        raise TypeError(f"optimizer: found {made!r}, wanted one with a learning rate lr")
    leaves, structure = flatten(params)
    trial = structure.build([x if x is None else backend_of(x).copy(x) for x in leaves])
    rates, losses, reason = list[float](), list[float](), "steps"
    for rate in np.geomspace(low, high, steps).tolist():
        value, gradients, _, shape = value_and_gradients(loss, trial)
        number = number_of(value)
        if not math.isfinite(number):
            reason = "nonfinite"
            break
        rates.append(rate)
        losses.append(number)
        smooth = averaged(losses)
        fallen = max(smooth[0] - min(smooth), 0.5 * abs(smooth[0]))
        if smooth[-1] > min(smooth) + diverged * fallen:
            reason = "diverged"
            break
        made.lr = rate
        made._hear(value)
        trial = made.apply(shape.build(gradients), trial)
    smooth = averaged(losses)
    return RateSearch(tuple(rates), tuple(losses), smooth, _steepest(rates, smooth), reason)


def averaged(losses: Sequence[float], reach: int = 2) -> tuple[float, ...]:
    """Return centered means over up to `reach` neighbours on either side."""
    found = []
    for i in range(len(losses)):
        r = min(reach, i, len(losses) - 1 - i)
        row = losses[i - r : i + r + 1]
        found.append(math.fsum(row) / len(row))
    return tuple(found)


def _steepest(rates: Sequence[float], smooth: Sequence[float]) -> float | None:
    """Return the rate of the steepest descent before the lowest loss."""
    if len(smooth) < 3:
        return None
    lowest = int(np.argmin(smooth))
    slopes = np.gradient(np.array(smooth), np.log(rates))[: lowest + 1]
    place = int(np.argmin(slopes))
    return float(rates[place]) if slopes[place] < 0.0 and lowest > 0 else None


def _require(loss: Any, low: Any, high: Any, steps: Any, diverged: Any) -> None:
    if not callable(loss):
        raise TypeError(
            f"loss: found {type(loss).__qualname__}, wanted a function of the parameters"
        )
    for name, value, least in (("low", low, 0.0), ("high", high, low), ("diverged", diverged, 1.0)):
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not number or not least < value < math.inf:
            raise ValueError(f"{name}: found {value!r}, wanted a number in ({least!r}, inf)")
    whole(steps, "steps", 8)
