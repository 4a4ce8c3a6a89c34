"""Any optimizer without a schedule, by averaging in its place."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

from .._typing import Array, Tree
from ..arrays.libraries import backend_of
from ..arrays.trees import flatten
from ..config.hyper import hyper
from ..config.registry import register_wrapper
from ..config.typed import Number
from ..rules.rule import rule
from ..step import checks
from ..step.journal import Journal
from ..step.sparse import made_dense
from ._base import Keeper, Wrapper


@rule(slots=("base",))
def between(p: Any, g: Any, z: Any, back: Any, c: Any, momentum: Any, xp: Any) -> Any:
    """Compute the next point from the base, passed as the gradient, and the mean."""
    x = p + back * (z - p)
    x = x + c * (g - x)
    return g + momentum * (x - g), g


class _Mean(Keeper):
    rule = between
    scalars: ClassVar = {"weight_sum": 0.0, "lr_max": 0.0, "steps": 0.0}
    starts: ClassVar = {"base": "parameter"}

    def average(self, h: SimpleNamespace, p: Array, slots: Mapping[str, Array]) -> Array:
        """Return the mean x."""
        return p + self._given["back"] * (slots["base"] - p)


@register_wrapper
class ScheduleFree(Wrapper):
    """Step with any optimizer, and average its iterates instead of decaying the step size.

    For training whose length is not known in advance. The parameters are the points at which
    gradients are evaluated; `averages` returns the model to evaluate and to keep. 4 bytes of state
    per float32 parameter besides those of the inner optimizer, and a temporary array of the
    parameter's size during a step. The inner optimizer should have no momentum.

    Parameters
    ----------
    inner : Optimizer, Wrapper, str or dict
        The optimizer that steps the base, its name, or its configuration.
    momentum : float in (0, 1)
        Weight of the mean in the point where gradients are evaluated, the paper's beta.
    r : float in [0, inf) or schedule
        Power of the step number in the weight of a step in the mean.
    weight_lr_power : float in [0, inf) or schedule
        Power of the largest step size so far in that weight.

    Notes
    -----
    Slot ``base``, the paper's z (shape of the parameter), in float32 for 16-bit parameters, starts
    as the parameter, which is the paper's y; ``t`` counts steps from 0, ``lr`` is that of the inner
    optimizer, without its ``decay``::

        w = (t + 1)**r * max(lr so far)**weight_lr_power;  c = w / sum(w so far)
        x = p + (1 - 1 / momentum) * (base - p)
        base = the inner optimizer's step from base with the gradient
        x = x + c * (base - x)
        p = momentum * x + (1 - momentum) * base

    Weight decay, constraints and parameter norms of the inner optimizer apply to the base; optax
    passes y instead of z. Warm up with a schedule for its ``lr``. Do not set `momentum` between
    steps: x would jump. `ScheduleFreeSGD` and `ScheduleFreeAdamW` do the same for their own rules
    in one fused step, with decay at y.

    References
    ----------
    Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky (2024), The Road Less Scheduled, equations
    3 to 5.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w, optimizer = np.array([1.0, -2.0]), ao.ScheduleFree(ao.SGD(lr=0.5))
    >>> for _ in range(2):
    ...     w = optimizer.apply(np.array([1.0, 1.0]), w)
    >>> w.round(4), optimizer.averages(w).round(4)
    (array([ 0.225, -2.775]), array([ 0.25, -2.75]))
    """

    keeper = _Mean
    many = False

    momentum: Number = hyper(default=0.9, interval="(0, 1)", doc="Weight of the mean in the point.")
    r: Number = hyper(default=0.0, interval="[0, inf)", doc="Power of the step number in weights.")
    weight_lr_power: Number = hyper(
        default=2.0, interval="[0, inf)", doc="Power of the step size in weights."
    )

    def init(self, params: Tree) -> None:
        """Create the state for a tree of parameters; `build` is an alias."""
        with self._lock:
            self._keeper.init(params)
            self.inner.init(self._bases(params))

    build = init

    def averages(self, params: Tree) -> Tree:
        """Return the means x, the points to evaluate; see `Optimizer.averages`."""
        with self._lock:
            self._keeper._given = self._shares(0.0)
            return self._keeper.averages(params)

    def _bases(self, params: Tree) -> Tree:
        """Return copies of the bases, as parameters for the inner optimizer."""
        leaves, structure = flatten(params)
        slots = self._own_state().slots
        return structure.build(
            [
                None if p is None else backend_of(p).copy(own["base"])
                for p, own in zip(leaves, slots, strict=True)
            ]
        )

    def _shares(self, c: float) -> dict[str, float]:
        return {"back": 1.0 - 1.0 / self.momentum, "c": c, "momentum": self.momentum}

    def _weighted(self) -> dict[str, float]:
        """Return the scalars of the next step."""
        steps = self._number("steps")
        lr_max = max(float(self.inner.lr), self._number("lr_max"))
        power, r = (self._at(name, int(steps)) for name in ("weight_lr_power", "r"))
        weight = (steps + 1.0) ** r * lr_max**power
        total = self._number("weight_sum") + weight
        numbers = {"weight_sum": total, "lr_max": lr_max, "steps": steps + 1.0}
        return numbers | self._shares(weight / total if total > 0.0 else 0.0)

    def _advance(self, grads: Tree, params: Tree, unscale: float, journal: Journal) -> Tree:
        if not self.built:
            self.init(params)
        given, other = flatten(grads, "gradients")
        leaves, structure = flatten(params)
        checks.same_structure(other, structure)
        found = journal.once(made_dense, self.inner, given, leaves, "the mean is dense")
        before, numbers = journal.once(lambda: (self.iterations, self._weighted()))
        bases = journal.once(self._bases, params)
        new, _ = flatten(self._step_inside(journal, structure.build(found), bases, unscale))
        if self.iterations == before:
            return params
        moved = [None if g is None else z for g, z in zip(found, new, strict=True)]
        return self._keep(journal, structure.build(moved), params, **numbers)
