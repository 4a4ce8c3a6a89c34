"""The base of optimizers that divide by a curvature estimated by the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from .._typing import Array, Scalar, Tree
from ..arrays.libraries import backend_of
from ..arrays.trees import flatten
from ..config.typed import Number
from ..engines import back
from ..optimizer import Optimizer
from ..step import checks
from ..step.session import session_of

__all__ = ["CurvatureOptimizer", "averaged"]


def averaged(mean: Array, new: Array, beta: Scalar) -> Array:
    """Return a running mean of estimates, updated with a new one."""
    backend = backend_of(mean)
    with backend.guard(mean):
        wide = back(backend.cast(new, backend.dtype(mean)), mean)
        found: Array = backend.array(beta * mean + (1.0 - beta) * wide)
    return found


class CurvatureOptimizer(Optimizer):
    """An optimizer with a running mean of estimates of the diagonal of the Hessian.

    A step reads the slot ``hessian`` but does not write it; the rule lists it among the exact
    slots.
    """

    supplied: ClassVar[tuple[str, ...]] = ("hessian",)

    beta_2: Number

    def update_hessian(self, estimates: Tree, params: Tree) -> None:
        """Update the running mean of the Hessian's diagonal with a new estimate.

        Parameters
        ----------
        estimates : tree of arrays
            One for each parameter, of its shape; None leaves a parameter's mean unchanged.
        params : tree of arrays
            The parameters, which are not changed.

        Raises
        ------
        TypeError, ValueError
            If an estimate does not match its parameter, or the state belongs to other parameters.
            Nothing has been changed.
        """
        session = session_of(self)
        if session.settings.models is not None:
            raise ValueError("update_hessian supports one model only; call take_model first")
        leaves, structure = flatten(params)
        found, other = flatten(estimates, "estimates")
        _require_fitting(found, leaves, structure, other)
        with session.lock:
            state = session.ready(leaves, structure)
            settings, it = session.plan.settings, state.iterations
            exact = settings.effective(settings.at(it, state.scalars), it)
            rows = zip(state.slots, found, session.plan.assignment.members, strict=True)

            def taken_in(mean: Array, new: Array, member: int) -> Array:
                compute = backend_of(mean).dtype(mean)
                beta = settings.rounded(member, exact[member], compute, np)["beta_2"]
                return averaged(mean, new, beta)

            new = [
                taken_in(slots["hessian"], x, k) if x is not None and "hessian" in slots else None
                for slots, x, k in rows
            ]
            for slots, mean in zip(state.slots, new, strict=True):
                if mean is not None:
                    slots["hessian"] = mean
            session.forget_engines()

    def stateless_update_hessian(
        self, state: dict[str, Any], estimates: Tree, params: Tree
    ) -> dict[str, Any]:
        """Update the running mean as a pure function, which a compiler can trace.

        Parameters
        ----------
        state : dict
            The state of the pure form, see `init_state`.
        estimates, params : tree of arrays
            As for `update_hessian`.

        Returns
        -------
        dict
            The new state.

        Raises
        ------
        TypeError, ValueError
            If an estimate does not match its parameter.
        """
        session = session_of(self)
        leaves, structure = flatten(params)
        found, other = flatten(estimates, "estimates")
        _require_fitting(found, leaves, structure, other)
        members = session.assign(checks.describe(leaves, structure)).members
        names = [member.prefix + "beta_2" for member in session.settings.members]
        held, _ = flatten(state["slots"]["hessian"], "the means")
        new = [
            old if x is None or old is None else averaged(old, x, _number(state, names, k))
            for old, x, k in zip(held, found, members, strict=True)
        ]
        slots = {**state["slots"], "hessian": structure.build(new)}
        return {**state, "slots": slots}


def _number(state: Mapping[str, Any], names: Sequence[str], member: int) -> Scalar:
    hyper: Mapping[str, Scalar] = state["hyper"]
    return hyper.get(names[member], hyper[names[0]])


def _require_fitting(found: Any, leaves: Any, structure: Any, other: Any) -> None:
    try:
        if other is not structure:
            checks.same_structure(other, structure)
        checks.gradients(found, leaves, structure)
    except (TypeError, ValueError) as error:
        told = str(error).replace("gradient", "estimate", 1)
        raise type(error)(f"update_hessian: {told}") from None
