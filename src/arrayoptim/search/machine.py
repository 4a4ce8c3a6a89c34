"""Limited-memory BFGS as a machine: it is told loss and gradient at a point, and gives the next.

All problems of a batch go on at their own pace. Without conditions in Python it is compiled too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .._typing import Array, Namespace
from .memory import direction, inner, remembered
from .wolfe import (
    AGAIN,
    BRACKETING,
    FAR,
    KEEP,
    NEAR,
    NOWHERE,
    OTHER,
    TOLD,
    TRIAL,
    USUAL,
    Bounds,
    Line,
    Point,
    advance,
)

BEGINNING, STATIONARY, LEVEL, STUCK = 0, 3, 4, 5
"""Stages beside those of a line search: before the first loss, and the three ends."""

NUMBERS = ("stage", "trials", "slow", "t", "value", "slope", "scale", "taken")
ENDS = tuple(f"{end}_{part}" for end in ("near", "far") for part in ("t", "value", "slope"))
VECTORS = ("point", "gradient", "direction", "near_gradient", "far_gradient")
ROWS = ("steps", "changes")

State = dict[str, Any]
"""The state by those names."""


@dataclass(frozen=True)
class Machine:
    """The numbers of a search; see `LBFGS`."""

    memory: int = 10
    gtol: float = 1e-5
    ftol: float = 0.0
    least_curvature: tuple[float, float] = (0.0, 2.2e-16)
    bounds: Bounds = USUAL

    def begin(self, ns: Any, xp: Namespace, point: Array) -> State:
        """Return the state before the first loss; the point itself is to be tried first."""
        none = xp.zeros_like(point)
        rows = xp.zeros_like(xp.broadcast_to(none[..., None, :], self._rows(point)))
        numbers = {name: ns.constant(0.0) for name in NUMBERS + ENDS}
        vectors = {name: point if name == "point" else none for name in VECTORS}
        return {**numbers, **vectors, **dict.fromkeys(ROWS, rows)}

    def _rows(self, point: Array) -> tuple[int, ...]:
        return (*point.shape[:-1], self.memory, point.shape[-1])

    def trial(self, ns: Any, xp: Namespace, state: State, box: Any, t: Any = None) -> Array:
        """Return the point to be tried, or another step along the direction."""
        t = ns.column(state["t"] if t is None else t)
        return _inside(xp, state["point"] + t * state["direction"], box)

    def tell(
        self, ns: Any, xp: Namespace, state: State, value: Any, gradient: Array, box: Any
    ) -> State:
        """Return the state after loss and gradient at the trial have become known.

        Parameters
        ----------
        ns : Plain
            The vocabulary of numbers.
        xp : namespace
            The library of the vectors.
        state : dict
            The state.
        value : number
            The loss of each problem.
        gradient : array of shape (..., size)
            The gradients.
        box : pair of array, or None
            The lowest and the highest value of each entry.
        """
        there = self.trial(ns, xp, state, box)
        slope = self._slope(ns, xp, state, there, gradient, box)
        usable = ns.finite(value) & ns.finite(slope)
        value = ns.where(usable, value, ns.constant(math.inf))
        told = Point(state["t"], value, ns.where(usable, slope, ns.constant(0.0)))
        line = Line(state["stage"], state["trials"], state["slow"], *_ends(state))
        start = Point(ns.constant(0.0), state["value"], state["slope"])
        largest = ns.number(xp.max(xp.abs(state["direction"]), axis=-1))
        line, t, taken, ends = advance(ns, line, start, told, largest, self.bounds)
        running = state["stage"] < STATIONARY
        first = state["stage"] == BEGINNING
        taken = ns.where(first, TRIAL, taken)
        taken = ns.where(running, taken, AGAIN)
        new = self._further(ns, state, line, t, gradient, ends, running)
        if ns.nowhere(taken != AGAIN):
            return new
        found = (there, value, gradient)
        return self._onwards(ns, xp, state, new, taken, found, box)

    def _slope(
        self, ns: Any, xp: Namespace, state: State, there: Array, gradient: Array, box: Any
    ) -> Any:
        """Return the derivative of the loss along the path, which bends where bounds are met."""
        way = state["direction"]
        if box is not None:
            straight = state["point"] + ns.column(state["t"]) * way
            way = xp.where(there == straight, way, xp.zeros_like(way))
        return ns.number(inner(xp, gradient, way))

    def _further(
        self,
        ns: Any,
        state: State,
        line: Line,
        t: Any,
        gradient: Array,
        ends: tuple[Any, Any],
        running: Any,
    ) -> State:
        """Return the state with the next trial of the same line."""
        new = dict(state)
        numbers = dict(zip(NUMBERS[:4], (*line[:3], t), strict=True))
        numbers.update(zip(ENDS, (*line.near, *line.far), strict=True))
        stopped = ns.negation(running)
        for name, value in numbers.items():
            new[name] = value if ns.nowhere(stopped) else ns.where(running, value, state[name])
        held = state["near_gradient"], state["far_gradient"]
        for name, code, own, other in zip(VECTORS[3:], ends, held, held[::-1], strict=True):
            if hasattr(code, "ndim") or code != KEEP:
                x = ns.choose(running & (code == TOLD), gradient, own)
                new[name] = ns.choose(running & (code == OTHER), other, x)
        return new

    def _onwards(
        self,
        ns: Any,
        xp: Namespace,
        old: State,
        new: State,
        taken: Any,
        found: tuple[Array, Any, Array],
        box: Any,
    ) -> State:
        """Return the state at the beginning of a new line, where a step has been taken."""
        first, nowhere = old["stage"] == BEGINNING, taken == NOWHERE
        moved = (taken != AGAIN) & ns.negation(nowhere)
        there, value, gradient = self._arrived(ns, xp, old, new, taken, found, box)
        there = ns.choose(moved, there, old["point"])
        value = ns.where(moved, value, old["value"])
        gradient = ns.choose(moved, gradient, old["gradient"])
        stepped = moved & ns.negation(first)
        learned = self._learned(ns, xp, old, there, gradient, stepped)
        aimed = self._aimed(ns, xp, learned, there, gradient, first | nowhere, box)

        still = ns.number(xp.max(xp.abs(_inside(xp, there - gradient, box) - there), axis=-1))
        stage = ns.constant(BRACKETING)
        if not ns.nowhere(nowhere):
            # It is stuck where the steepest descent led nowhere.
            steepest = ns.number(xp.sum(xp.abs(old["steps"]), axis=(-2, -1))) == 0
            stage = ns.where(nowhere & steepest, STUCK, BRACKETING)
        if self.ftol:
            size = ns.maximum(ns.magnitude(old["value"]), ns.magnitude(value))
            fall = self.ftol * ns.maximum(size, ns.constant(1.0))
            stage = ns.where(stepped & (old["value"] - value <= fall), LEVEL, stage)
        stage = ns.where(still <= self.gtol, STATIONARY, stage)
        after = {
            **aimed,
            "stage": stage,
            "trials": 0.0,
            "slow": 0.0,
            "t": ns.where(stage == BRACKETING, aimed["t"], 0.0),
            "value": value,
            "taken": ns.where(stepped, old["taken"] + 1, old["taken"]),
            "near_t": 0.0,
            "near_value": value,
            "near_slope": aimed["slope"],
            "point": there,
            "gradient": gradient,
            "near_gradient": gradient,
        }
        ended, going_on = taken != AGAIN, taken == AGAIN
        vectors = {*VECTORS, *ROWS}
        for name, x in after.items():
            choose = ns.choose if name in vectors else ns.where
            alike = hasattr(x, "ndim") == hasattr(new[name], "ndim")
            new[name] = x if ns.nowhere(going_on) and alike else choose(ended, x, new[name])
        return new

    def _arrived(
        self,
        ns: Any,
        xp: Namespace,
        old: State,
        new: State,
        taken: Any,
        found: tuple[Array, Any, Array],
        box: Any,
    ) -> tuple[Array, Any, Array]:
        """Return the point that was taken, with its loss and gradient: the trial, or an end."""
        there, value, gradient = found
        for code, end in ((NEAR, "near"), (FAR, "far")):
            if ns.nowhere(taken == code):
                continue
            along = self.trial(ns, xp, old, box, new[f"{end}_t"])
            there = ns.choose(taken == code, along, there)
            value = ns.where(taken == code, new[f"{end}_value"], value)
            gradient = ns.choose(taken == code, new[f"{end}_gradient"], gradient)
        return there, value, gradient

    def _learned(
        self, ns: Any, xp: Namespace, old: State, there: Array, gradient: Array, stepped: Any
    ) -> State:
        """Return what is remembered after a step: the pairs, and the scale of the newest."""
        step, change = there - old["point"], gradient - old["gradient"]
        curvature = ns.number(inner(xp, step, change))
        square = ns.number(inner(xp, change, change))
        floor, share = self.least_curvature
        kept = stepped & (curvature > floor) & (curvature > share * square)
        return {
            "scale": ns.where(kept, ns.ratio(curvature, square), old["scale"]),
            "steps": remembered(ns, xp, old["steps"], step, kept),
            "changes": remembered(ns, xp, old["changes"], change, kept),
        }

    def _aimed(
        self,
        ns: Any,
        xp: Namespace,
        learned: State,
        there: Array,
        gradient: Array,
        anew: Any,
        box: Any,
    ) -> State:
        """Return the next direction, its slope, the first step to try, and what is remembered."""
        held = _held(xp, there, gradient, box)
        free = gradient if held is None else xp.where(held, xp.zeros_like(gradient), gradient)
        rows = learned["steps"], learned["changes"]
        way = direction(xp, *rows, ns.column(learned["scale"]), free)
        if held is not None:
            way = xp.where(held, xp.zeros_like(way), way)
        slope = ns.number(inner(xp, free, way))
        # A line that led nowhere, or a direction uphill: all is forgotten but the gradient.
        forgotten = anew | ns.negation(slope < 0)
        if not ns.nowhere(forgotten):
            rows = tuple(ns.choose(forgotten, xp.zeros_like(x), x) for x in rows)
            way = ns.choose(forgotten, -free, way)
            slope = ns.where(forgotten, -ns.number(inner(xp, free, free)), slope)
        length = ns.number(xp.sum(xp.abs(free), axis=-1))
        short = ns.where(length == 0, 1.0, ns.ratio(1.0, length))
        t = ns.where(forgotten, ns.minimum(short, ns.constant(1.0)), 1.0)
        return {
            "direction": way,
            "slope": slope,
            "t": t,
            "scale": ns.where(forgotten, 1.0, learned["scale"]),
            "steps": rows[0],
            "changes": rows[1],
        }


def _ends(state: State) -> tuple[Point, Point]:
    values = [state[name] for name in ENDS]
    return Point(*values[:3]), Point(*values[3:])


def _inside(xp: Namespace, x: Array, box: Any) -> Array:
    return x if box is None else xp.minimum(xp.maximum(x, box[0]), box[1])


def _held(xp: Namespace, x: Array, gradient: Array, box: Any) -> Array | None:
    """Return which entries are at a bound that the gradient would have them pass."""
    if box is None:
        return None
    return ((x <= box[0]) & (gradient > 0)) | ((x >= box[1]) & (gradient < 0))
