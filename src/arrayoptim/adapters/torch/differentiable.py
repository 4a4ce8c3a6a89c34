"""Differentiable steps: autograd operations from gradients, parameters and state to new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..._typing import Array, Scalar
from ...arrays.torch import recording
from ...engines import Step
from ...optimizer import Optimizer
from ...step.executors import Pure
from ...step.session import Session, session_of
from ...step.state import State
from ...step.take import Leaves, Taken, take
from .shards import Tensor, is_shared_out

HOW = "stateless_apply of the optimizer itself supports that"


def refuse_undifferentiable(core: Optimizer, name: str) -> None:
    """Refuse settings whose steps depend on scalars that the host computes from gradients.

    Raises
    ------
    ValueError
        If there is such a setting.
    """
    usual = {"clipnorm": None, "clipnorm_per_tensor": None, "agc": None, "nonfinite": "ignore"}
    found = [f"{k}={getattr(core, k)!r}" for k, same in usual.items() if getattr(core, k) != same]
    members = session_of(core).settings.members
    if any(member.formula.rule.totals for member in members):
        found.append("a rule with totals over all parameters")
    if core.state_dtype is not None:
        found.append(f"state_dtype={core.state_dtype!r}")
    if found:
        raise ValueError(
            f"{name}: found differentiable=True with {', '.join(found)}, whose scalars have no "
            f"derivative in a step of torch; {HOW}"
        )


def refuse_undifferentiable_arrays(
    name: str, params: Sequence[Tensor], grads: Sequence[Any], group: dict[str, Any]
) -> None:
    """Refuse parameters, gradients and scalars through which a step cannot be differentiated.

    Raises
    ------
    RuntimeError
        If a parameter is a leaf of the graph, which autograd forbids writing into.
    ValueError
        If tensors are sharded or sparse, or a hyperparameter requires grad.
    """
    for p, g in zip(params, grads, strict=True):
        if is_shared_out(p) or not (g is None or isinstance(g, torch.Tensor)):
            raise ValueError(f"{name}: differentiable=True takes no sharded or sparse tensors")
        if p.is_leaf and p.requires_grad:
            raise RuntimeError(
                f"{name}: found differentiable=True and a parameter that is a leaf of the graph "
                "and requires grad, into which a differentiable step cannot write; pass "
                "p.clone(), and set its grad"
            )
    for key, value in group.items():
        row = value if isinstance(value, tuple) else (value,)
        if any(isinstance(x, torch.Tensor) and x.requires_grad for x in row) and key != "params":
            raise ValueError(
                f"{name}: {key} requires grad, but steps are differentiable only with respect to "
                f'gradients, parameters and state. {HOW}, through state["hyper"]'
            )


class _Recorded(Pure):
    """Computes a step out of place and commits the new state."""

    def __init__(self, session: Session, leaves: Leaves, state: State, values: Any) -> None:
        super().__init__(leaves, state.slots, values)
        self._session, self._state = session, state

    def carried_out(
        self, taken: Taken, steps: list[Step], gradients: Leaves, scalars: dict[str, Scalar]
    ) -> tuple[Leaves, list[dict[str, Array]], dict[str, Scalar]]:
        """Commit and return new parameters, new slots, and the next scalar state."""
        found, state = super().carried_out(taken, steps, gradients, scalars), self._state
        if taken.clocks:
            state.clocks, state.clock_of = state.ticked(gradients, taken.clocks)
        state.scalars, state.iterations = scalars, taken.iterations + 1
        state.slots = found[1]
        self._session.forget_engines()
        self._session.note(taken)
        return found


def step_recorded(session: Session, grads: Sequence[Any], leaves: Sequence[Tensor]) -> None:
    """Take a step that autograd records.

    Parameters are written in place, like torch's own; state is replaced by new tensors.

    Parameters
    ----------
    session : Session
        State and plan of the optimizer.
    grads, leaves : sequence of Tensor
        Gradients, None where there is none, and parameters.
    """
    state, plan = session.state, session.plan
    assert state is not None
    with torch.enable_grad(), recording(list(grads), list(leaves), state.slots):
        # Results computed from a tensor cannot be differentiated once the tensor has been written.
        before = [x.clone() for x in leaves]
        values = plan.settings.at(state.iterations, state.scalars)
        found = take(plan, state, grads, _Recorded(session, before, state, values))
        assert found is not None
        for p, old, new in zip(leaves, before, found[0], strict=True):
            if new is not old and new is not None:
                p.copy_(new)
