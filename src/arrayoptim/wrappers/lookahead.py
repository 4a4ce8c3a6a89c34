"""Fast weights that step, and slow ones that follow."""

from __future__ import annotations

from typing import Any, ClassVar

from .._typing import Tree
from ..config.hyper import hyper
from ..config.registry import register_wrapper
from ..config.typed import Number, Whole
from ..rules.rule import rule
from ..step.journal import Journal
from ._base import Keeper, Wrapper


@rule(slots=("slow",))
def lookahead(p: Any, g: Any, s: Any, alpha: Any, xp: Any) -> Any:
    """Move the slow weights towards the fast ones, and reset the fast ones to them."""
    s = s + alpha * (p - s)
    return s, s


class _Follower(Keeper):
    rule = lookahead
    starts: ClassVar = {"slow": "parameter"}


@register_wrapper
class Lookahead(Wrapper):
    """Take `k` fast steps ahead, then move back to a point on the way.

    Stabilizes an optimizer with large steps. 4 bytes of state per float32 parameter, for the
    slow weights.

    Parameters
    ----------
    inner : Optimizer, Wrapper, str or dict
        The optimizer that makes the fast steps, its name, or its configuration.
    k : int in [1, inf)
        Fast steps per slow step.
    alpha : float in [0, 1]
        Fraction of the way that the slow weights move towards the fast ones.

    Notes
    -----
    Slot ``slow`` (shape of the parameter) starts as the parameter. After each step whose number,
    from 1, is a multiple of `k`::

        slow = slow + alpha * (p - slow)
        p = slow

    The state of the inner optimizer is not changed. A 16-bit parameter continues from its rounded
    slow weights.

    References
    ----------
    Zhang, Lucas, Hinton, Ba (2019), Lookahead Optimizer: k steps forward, 1 step back,
    algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w, optimizer = np.zeros(2), ao.Lookahead(ao.SGD(lr=1.0), k=2, alpha=0.5)
    >>> for _ in range(2):
    ...     w = optimizer.apply(np.ones(2), w)
    >>> w
    array([-1., -1.])
    """

    keeper = _Follower

    k: Whole = hyper(default=5, interval="[1, inf)", integer=True, doc="Fast steps to a slow one.")
    alpha: Number = hyper(default=0.5, interval="[0, 1]", doc="How far the slow weights go.")

    def _advance(self, grads: Tree, params: Tree, unscale: float, journal: Journal) -> Tree:
        if not self.built:
            self.init(params)
        before = journal.once(lambda: self.iterations)
        k = journal.once(self._at, "k", before + 1)
        alpha = journal.once(self._at, "alpha", before + 1) if (before + 1) % k == 0 else 0.0
        new = self._step_inside(journal, grads, params, unscale)
        if self.iterations == before or self.iterations % k:
            return new
        return self._keep(journal, new, new, alpha=alpha)
