"""Gradients accumulated over several calls."""

from __future__ import annotations

from typing import Any, ClassVar

from .._typing import Tree
from ..arrays.identity import same_objects
from ..arrays.trees import flatten
from ..config.hyper import hyper
from ..config.registry import register_wrapper
from ..config.typed import Whole
from ..rules.rule import rule
from ..step import checks
from ..step.journal import Journal
from ..step.session import session_of
from ..step.sparse import made_dense
from ._base import Keeper, Wrapper


@rule(slots=("gathered",))
def gather(p: Any, g: Any, a: Any, share: Any, more: Any, zero: Any, xp: Any) -> Any:
    """Add a gradient to the sum, or start a new sum."""
    return p, xp.where(more > zero, a, zero) + share * g


class _Gatherer(Keeper):
    rule = gather
    scalars: ClassVar = {"calls": 0.0}


@register_wrapper
class GradientAccumulation(Wrapper):
    """Step with the mean of the gradients of several calls.

    For batches that do not fit in memory. 4 bytes of state per float32 parameter, for the sum.

    Parameters
    ----------
    inner : Optimizer, Wrapper, str or dict
        The optimizer that steps, its name, or its configuration.
    every : int in [1, inf)
        Calls of `apply` per step.

    Notes
    -----
    Slot ``gathered`` (shape of the parameter), in float32 for 16-bit parameters; the inner
    optimizer's step divides the sum, before clipping. Schedules and ``iterations`` count steps, not
    calls. A file saved between two steps contains the sum and the number of calls. A parameter must
    have a gradient in all calls of a step or in none.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w, optimizer = np.zeros(2), ao.GradientAccumulation(ao.SGD(lr=1.0), every=2)
    >>> for g in ([1.0, 2.0], [3.0, 4.0]):
    ...     w = optimizer.apply(np.array(g), w)
    >>> w, optimizer.iterations
    (array([-2., -3.]), 1)
    """

    keeper = _Gatherer

    every: Whole = hyper(default=2, interval="[1, inf)", integer=True, doc="Calls in a step.")

    def _advance(self, grads: Tree, params: Tree, unscale: float, journal: Journal) -> Tree:
        if not self.built:
            self.init(params)
        calls = journal.once(self._number, "calls")
        given, other = flatten(grads, "gradients")
        leaves, structure = flatten(params)
        checks.same_structure(other, structure)
        why = "what is gathered is dense"
        found = journal.once(made_dense, self.inner, given, leaves, why)
        if not same_objects(found, given):
            grads = structure.build(found)
        present = session_of(self._keeper).state, [g is not None for g in found]
        known = self.__dict__.get("_present", present)
        if calls and known[0] is present[0] and known[1] != present[1]:
            raise ValueError(
                "a parameter had a gradient in one call of this step and None in another; wanted "
                f"gradients of the same parameters in all {self.every} calls; give zeros"
            )
        last = calls + 1 >= journal.once(lambda: self.every)
        # The inner optimizer may reject the sum, for instance where it is not finite.
        counts, put_back = (
            journal.once(lambda: (self._counts(), self._copied())) if last else ([], None)
        )
        self._keep(journal, grads, params, share=unscale, more=min(calls, 1.0), zero=0.0)
        self._put_number("calls", calls + 1.0)
        self._present = present
        if put_back is None:
            return params
        sums = [
            held["gathered"] if p is not None and g is not None else None
            for p, g, held in zip(leaves, found, self._own_state().slots, strict=True)
        ]
        try:
            new = self._step_inside(journal, structure.build(sums), params, 1.0 / (calls + 1.0))
        except Exception:
            if self._counts() == counts:
                put_back()
                journal.begun = False
            raise
        self._put_number("calls", 0.0)
        return new
