"""Gradients of a scaled loss."""

from __future__ import annotations

from typing import Any, ClassVar

from .._typing import Scalar, Tree
from ..config.hyper import hyper
from ..config.registry import register_wrapper
from ..config.typed import Number, Whole
from ..rules.rule import rule
from ..step.journal import Journal
from ._base import Keeper, Wrapper

SMALLEST, LARGEST = 2.0**-100, 2.0**100
"""Lower and upper bound of the scale, whatever the gradients."""


@rule(slots=())
def rest(p: Any, g: Any, zero: Any, xp: Any) -> Any:
    """Leave the parameter unchanged."""
    return (p,)


class _Counter(Keeper):
    rule = rest
    scalars: ClassVar = {"factor": 1.0, "good": 0.0}


@register_wrapper
class LossScale(Wrapper):
    """Divide gradients of a scaled loss by the scale, and skip steps where they overflow.

    For float16 gradients, of which small ones would underflow otherwise. The inner optimizer's
    step includes the division, in its own arithmetic and before clipping.

    Parameters
    ----------
    inner : Optimizer, Wrapper, str or dict
        The optimizer, its name, or its configuration. Its ``nonfinite`` becomes ``"skip"``.
    scale : float in [1e-30, 1e30]
        The initial scale of the loss; `loss_scale` is the current one.
    dynamic : bool
        Whether to adapt the scale to overflows.
    growth_interval : int in [1, inf)
        Steps without overflow after which the scale is doubled. It is halved at each overflow.

    Notes
    -----
    The current scale and the number of good steps are included in weight lists and files. Skipped
    steps are counted in ``skipped``.

    References
    ----------
    Micikevicius et al. (2018), Mixed Precision Training, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w, optimizer = np.zeros(2), ao.LossScale(ao.SGD(lr=1.0), scale=8.0)
    >>> w = optimizer.apply(optimizer.loss_scale * np.ones(2), w)
    >>> w = optimizer.apply(np.array([np.inf, 1.0]), w)
    >>> w, optimizer.loss_scale, optimizer.skipped
    (array([-1., -1.]), 4.0, 1)
    """

    keeper = _Counter

    scale: Number = hyper(
        default=65536.0, interval="[1e-30, 1e30]", doc="The initial scale of the loss."
    )
    dynamic: bool = hyper(default=True, doc="Whether to adapt the scale to overflows.")
    growth_interval: Whole = hyper(
        default=2000, interval="[1, inf)", integer=True, doc="Good steps until the scale doubles."
    )

    def _set(self, values: dict[str, Any]) -> None:
        super()._set(values)
        self.inner.nonfinite = "skip"

    @property
    def loss_scale(self) -> float:
        """The factor to multiply the next loss by."""
        return float(self.scale * self._number("factor"))

    def _hear(self, value: Scalar) -> None:
        self.inner._hear(value / self.loss_scale)

    def _advance(self, grads: Tree, params: Tree, unscale: float, journal: Journal) -> Tree:
        if not self.built:
            self.init(params)
        steps, skipped = journal.once(lambda: (self.iterations, self.skipped))
        good, factor = journal.once(lambda: (self._number("good"), self._number("factor")))
        scale = journal.once(lambda: self.scale)
        interval = journal.once(self._at, "growth_interval", steps + 1)
        new = self._step_inside(journal, grads, params, unscale / (scale * factor))
        if not self.dynamic:
            return new
        good += float(self.iterations > steps)
        if self.skipped > skipped:
            self._put_number("factor", max(0.5 * factor, SMALLEST))
            good = 0.0
        elif good >= interval:
            self._put_number("factor", min(2.0 * factor, LARGEST))
            good = 0.0
        self._put_number("good", good)
        return new
