"""Gradients whose slow part is amplified."""

from __future__ import annotations

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


@rule(slots=("slow",))
def slow_gradient(p: Any, g: Any, m: Any, alpha: Any, share: Any, xp: Any) -> Any:
    """Update the running mean of the gradients."""
    return p, alpha * m + share * g


class _Averager(Keeper):
    rule = slow_gradient
    scalars: ClassVar = {"steps": 0.0}


@register_wrapper
class Grokfast(Wrapper):
    """Amplify the slow component of gradients: add a multiple of their running mean to each.

    Shortens the delay between memorizing the training data and generalizing. 4 bytes of state per
    float32 parameter, for the mean, and a temporary array of the size of a gradient during a step.

    Parameters
    ----------
    inner : Optimizer, Wrapper, str or dict
        The optimizer that steps, its name, or its configuration.
    alpha : float in [0, 1) or schedule
        Decay rate of the running mean, per step.
    lamb : float in [0, inf) or schedule
        Factor of the mean.

    Notes
    -----
    Slot ``slow`` (shape of the parameter), in float32 for 16-bit parameters, equals the first
    gradient after the first step; then::

        slow = alpha * slow + (1 - alpha) * g
        g = g + lamb * slow

    Gradients are filtered before the inner optimizer clips them. A skipped step leaves the mean
    unchanged. The mean of a parameter whose first gradient comes in a later step starts at zero.
    This is the authors' exponential-moving-average filter, ``gradfilter_ema``.

    References
    ----------
    Lee, Kang, Kim, Lee (2024), Grokfast: Accelerated Grokking by Amplifying Slow Gradients,
    algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w, optimizer = np.zeros(2), ao.Grokfast(ao.SGD(lr=1.0), alpha=0.5, lamb=2.0)
    >>> for g in ([1.0, 1.0], [1.0, -1.0]):
    ...     w = optimizer.apply(np.array(g), w)
    >>> w
    array([-6., -2.])
    """

    keeper = _Averager

    alpha: Number = hyper(default=0.98, interval="[0, 1)", doc="Decay rate of the mean.")
    lamb: Number = hyper(default=2.0, interval="[0, inf)", doc="Factor of the mean.")

    def _advance(self, grads: Tree, params: Tree, unscale: float, journal: Journal) -> Tree:
        if not self.built:
            self.init(params)
        given, other = flatten(grads, "gradients")
        leaves, structure = flatten(params)
        checks.same_structure(other, structure)
        found = journal.once(made_dense, self.inner, given, leaves, "the mean is dense")
        steps, skipped = journal.once(lambda: (self._number("steps"), self.skipped))
        alpha = journal.once(self._at, "alpha", int(steps)) if steps else 0.0
        lamb = journal.once(self._at, "lamb", int(steps))
        numbers = {"alpha": alpha, "share": (1.0 - alpha) * unscale}

        def filtered() -> list[Array | None]:
            slots = self._own_state().slots
            return [
                None
                if g is None or p is None
                else _filtered(p, g, own["slow"], unscale, lamb, numbers)
                for p, g, own in zip(leaves, found, slots, strict=True)
            ]

        new = self._step_inside(journal, structure.build(journal.once(filtered)), params, 1.0)
        if self.skipped == skipped:
            self._keep(journal, structure.build(found), new, **numbers)
            self._put_number("steps", steps + 1.0)
        return new


def _filtered(
    p: Array, g: Array, slow: Array, unscale: float, lamb: float, numbers: dict[str, float]
) -> Array:
    """Return a gradient plus a multiple of the mean, which already includes it."""
    backend = backend_of(p)
    with backend.guard(p):
        g = backend.cast(g, backend.dtype(slow))
        _, mean = slow_gradient.function(p, g, slow, *numbers.values(), backend.xp)
        return backend.array(unscale * g + lamb * mean)
