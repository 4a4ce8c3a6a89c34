"""Stepping each parameter when its gradient is there, so that no two gradients need memory."""

from __future__ import annotations

import math
from collections import ChainMap
from typing import TYPE_CHECKING, Any

import torch

from ...engines import carry_out
from ...gradients import global_norm
from .param_group import Part
from .shards import Tensor, is_shared_out
from .sparse import part_class

if TYPE_CHECKING:
    from .grouped import Grouped

__all__ = ["BackwardSteps"]

KEY = "backward"
"""Under which the state has the norm of the last step, beside the entries of parameters."""


class BackwardSteps:
    """The hooks by which an optimizer steps while a backward pass runs.

    Parameters
    ----------
    optimizer : Grouped
        The optimizer.
    last_norm : bool
        Whether `clipnorm` bounds the norm that the gradients of the step before had.
    """

    def __init__(self, optimizer: Grouped, last_norm: bool) -> None:
        self._optimizer, self._last_norm = optimizer, last_norm
        self._parts: dict[Tensor, tuple[Any, Part]] = {}
        self._handles: dict[Tensor, Any] = {}
        self._squares: dict[Tensor, float] = {}
        self._refuse_together()
        self.cover()

    def remove(self) -> None:
        """Take the hooks away; steps are taken by ``step`` again."""
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()
        self._parts.clear()
        self._optimizer._backward = None

    def cover(self) -> None:
        """Register a hook on all parameters that have none yet.

        Raises
        ------
        ValueError
            If the settings of a group need all gradients at once, or a parameter is in parts.
        """
        for group in self._optimizer.param_groups:
            self._require(Part(self._optimizer.spelling, group), group["params"])
        for group in self._optimizer.param_groups:
            for p in group["params"]:
                if p not in self._handles and p.requires_grad:
                    self._handles[p] = p.register_post_accumulate_grad_hook(self._arrived)

    def end(self) -> None:
        """Close a step: the norm of its gradients is that by which the next one clips."""
        if self._squares and self._last_norm:
            norm = math.sqrt(math.fsum(self._squares.values()))
            # By one that is not finite the next step would spoil all parameters.
            if math.isfinite(norm):
                self._optimizer.state[KEY] = {"norm": torch.tensor(norm, dtype=torch.float64)}
        self._squares = {}

    # ---- one gradient

    def _arrived(self, p: Tensor) -> None:
        """Step one parameter, and let go of its gradient."""
        with torch.no_grad():
            self._take(p)

    def _take(self, p: Tensor) -> None:
        if p in self._squares:  # the pass before has ended without a call of `step`
            self.end()
        self._squares[p] = 0.0
        optimizer, part = self._optimizer, self._part(p)
        found = part.check()
        self._require(part, [p])
        grads = part.gathered(found, optimizer.state, same=False)
        assert grads is not None
        norm = self._norm(p, grads)
        part.prepare(grads)
        carry_out([part.act(grads, norm, optimizer.state)], lambda: None)
        p.grad = None

    def _norm(self, p: Tensor, grads: list[Tensor | None]) -> float | None:
        """Return the norm to clip by: that of the step before; in the first one that so far."""
        if not self._last_norm:
            return None
        own = float(global_norm(grads))
        self._squares[p] = own * own
        last = self._optimizer.state.get(KEY)
        if last:
            return float(last["norm"])
        return math.sqrt(math.fsum(self._squares.values()))

    def _part(self, p: Tensor) -> Part:
        optimizer = self._optimizer
        held, part = self._parts.get(p, (None, None))
        if part is not None and any(held is group for group in optimizer.param_groups):
            return part
        for group in optimizer.param_groups:
            for k, member in enumerate(group["params"]):
                if member is p:
                    own = {"params": [p]}
                    if names := group.get("param_names"):
                        own["param_names"] = [names[k]]
                    seen: Any = ChainMap(own, group)  # schedulers write into the group
                    kind = part_class(optimizer.spelling)
                    part = kind(optimizer.spelling, seen)
                    part.leave_to_host("step_in_backward steps while a backward pass runs")
                    self._parts[p] = group, part
                    return part
        raise RuntimeError("step_in_backward: found a gradient of a parameter that is in no group")

    # ---- refusals

    def _refuse_together(self) -> None:
        if self._last_norm and all(
            group["clipnorm"] is None for group in self._optimizer.param_groups
        ):
            raise ValueError(
                f"{self._name}.step_in_backward: found clip_by_last_norm=True and no clipnorm; "
                "give clipnorm= to the optimizer"
            )

    @property
    def _name(self) -> str:
        return self._optimizer.spelling.name

    def _require(self, part: Part, params: list[Tensor]) -> None:
        """Refuse what a step knows only when all gradients are there."""
        core, what = part.core, f"{self._name}.step_in_backward"
        if core.clipnorm is not None and not self._last_norm:
            raise ValueError(
                f"{what}: clipnorm={core.clipnorm!r} needs the norm of all gradients, which are "
                "not there at once; clip_by_last_norm=True clips by the norm of the step before, "
                "clipnorm_per_tensor= and clipvalue= bound each gradient for itself"
            )
        if core.nonfinite != "ignore":
            raise ValueError(
                f"{what}: nonfinite={core.nonfinite!r} needs to have seen all gradients before "
                'the first parameter is stepped; give nonfinite="ignore"'
            )
        for name in ("skip_spikes", "skip_loss_spikes", "measure"):
            if value := getattr(core, name):
                raise ValueError(
                    f"{what}: {name}={value!r} needs to see all gradients of a step at once; "
                    f"take its steps by step(), or leave {name} out"
                )
        if part.together():
            raise ValueError(
                f"{what}: {self._name} measures all parameters of a group together; take its "
                "steps by step()"
            )
        if any(map(is_shared_out, params)):
            raise ValueError(
                f"{what}: found parameters that are sharded over processes, whose gradients are "
                "reduced after the backward pass; take their steps by step()"
            )
