"""Gradients of a point uphill."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np

from .._typing import Array, Scalar, Tree
from ..arrays.derivatives import gradients_of
from ..arrays.libraries import backend_of
from ..arrays.rows import as_rows, dense
from ..arrays.trees import flatten
from ..config.hyper import hyper
from ..config.registry import register_wrapper
from ..config.typed import Number
from ..rules.rule import rule
from ..step import checks
from ..step.averages import copy_as
from ..step.journal import Journal, carried_through
from ..step.session import session_of
from ._base import Keeper, Wrapper


@rule(slots=("start",))
def climb(p: Any, g: Any, e: Any, c: Any, xp: Any) -> Any:
    """Move along the gradient, and keep the starting point."""
    return p + c * g, p


class _Climber(Keeper):
    rule = climb
    scalars: ClassVar = {"climbed": 0.0}


@register_wrapper
class SAM(Wrapper):
    """Step with the gradient of a point uphill, to find flat minima.

    Each step takes two gradients: `ascend` takes the first and moves the parameters uphill; `apply`
    takes the gradient there, moves back and steps. 4 bytes of state per float32 parameter.

    Parameters
    ----------
    inner : Optimizer, Wrapper, str or dict
        The optimizer that steps, its name, or its configuration.
    rho : float in [0, inf)
        Distance of the point, as the Euclidean norm over all parameters.

    Notes
    -----
    Slot ``start`` (shape of the parameter): the point where `ascend` began, which `apply` restores
    bit for bit. A zero or nonfinite gradient moves nothing.

    References
    ----------
    Foret, Kleiner, Mobahi, Neyshabur (2021), Sharpness-Aware Minimization for Efficiently
    Improving Generalization, equation 2 and algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> w, optimizer = np.array([3.0, 4.0]), ao.SAM(ao.SGD(lr=0.5), rho=1.0)
    >>> w = optimizer.ascend(w.copy(), w)  # of the loss half w squared
    >>> w
    array([3.6, 4.8])
    >>> optimizer.apply(w.copy(), w)
    array([1.2, 1.6])
    """

    keeper = _Climber
    many = False

    rho: Number = hyper(default=0.05, interval="[0, inf)", doc="Distance of the point uphill.")

    def ascend(self, grads: Tree, params: Tree) -> Tree:
        """Move the parameters uphill; pass the gradients of the new point to `apply`.

        Parameters
        ----------
        grads, params : tree of arrays
            Gradients, None for parameters without one, and parameters.

        Returns
        -------
        tree of arrays
            The parameters uphill: the same arrays where they are writeable.

        Raises
        ------
        ValueError
            If the parameters are uphill already, or gradients and parameters do not match.
        """
        with self._lock:
            return carried_through(partial(self._climb, grads, params), self._sessions(), params)

    def _climb(self, grads: Tree, params: Tree, journal: Journal) -> Tree:
        if not self.built:
            self.init(params)
        if journal.once(self._number, "climbed"):
            raise ValueError("the parameters are uphill already; wanted a call of apply")
        leaves, structure = flatten(params)
        given, other = flatten(grads, "gradients")
        checks.same_structure(other, structure)
        checks.gradients(list(map(as_rows, given, leaves)), leaves, structure)
        found = journal.once(dense, given, leaves)
        norm = journal.once(session_of(self._keeper).norm, found)
        moves = 0.0 < norm < np.inf
        filled = [
            None if p is None else g if moves and g is not None else _zeros(p)
            for p, g in zip(leaves, found, strict=True)
        ]
        scale = self.rho / norm if moves else 0.0
        new = self._keep(journal, structure.build(filled), params, c=scale)
        self._put_number("climbed", 1.0)
        return new

    def _descend(self, loss: Any, value: Scalar, gradients: Tree, params: Tree) -> Tree:
        self._hear(value)
        uphill = self.ascend(gradients, params)
        second, _, structure = gradients_of(loss, uphill)
        return self.apply(structure.build(second), uphill)

    def _advance(self, grads: Tree, params: Tree, unscale: float, journal: Journal) -> Tree:
        if not journal.once(self._number, "climbed"):
            raise ValueError("the parameters are not uphill; wanted a call of ascend before apply")
        leaves, structure = flatten(params)
        found, other = flatten(grads, "gradients")
        checks.same_structure(other, structure)
        checks.gradients(list(map(as_rows, found, leaves)), leaves, structure)
        state = session_of(self._keeper).ready(leaves, structure)
        pairs = [
            (p, copy_as(held["start"], p))
            for p, held in zip(leaves, state.slots, strict=True)
            if p is not None
        ]
        journal.begun = True
        back = iter(self._keeper.apply_updates(pairs))
        start = structure.build([None if p is None else next(back) for p in leaves])
        self._put_number("climbed", 0.0)
        return self._step_inside(journal, grads, start, unscale)


def _zeros(p: Array) -> Array:
    backend = backend_of(p)
    with backend.guard(p):
        return backend.zeros(p, backend.dtype(p))
