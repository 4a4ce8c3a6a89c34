"""Steps during the backward pass: each parameter is stepped when its gradient is ready."""

from __future__ import annotations

import math
from collections import ChainMap
from typing import TYPE_CHECKING, Any

import torch

from ...engines import carry_out
from ...gradients import global_norm
from .group_settings import GroupSettings
from .param_group import Part
from .shards import Tensor, is_shared_out
from .sparse import part_class

if TYPE_CHECKING:
    from .grouped import Grouped

__all__ = ["BackwardSteps"]

KEY = "backward"
"""The key of the last step's norm in the state, besides the entries of parameters."""


class BackwardSteps:
    """The hooks through which an optimizer steps during a backward pass.

    Parameters
    ----------
    optimizer : Grouped
        The optimizer.
    last_norm : bool
        Whether `clipnorm` uses the gradient norm of the previous step.
    """

    def __init__(self, optimizer: Grouped, last_norm: bool) -> None:
        self._optimizer, self._last_norm = optimizer, last_norm
        self._parts: dict[Tensor, tuple[Any, Part]] = {}
        self._handles: dict[Tensor, Any] = {}
        self._squares: dict[Tensor, float] = {}
        # A backward pass may be a part of what is compiled.
        self._hook = torch.compiler.disable(self._arrived)
        self._refuse_together()
        self.cover()

    def remove(self) -> None:
        """Remove the hooks; ``step`` takes the steps again."""
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()
        self._parts.clear()
        self._optimizer._backward = None

    def cover(self) -> None:
        """Register a hook on each parameter that has none yet.

        Raises
        ------
        ValueError
            If the settings of a group need all gradients at once, or a parameter is sharded.
        """
        for group in self._optimizer.param_groups:
            self._require(GroupSettings(self._optimizer.spelling, group), group["params"])
        for group in self._optimizer.param_groups:
            for p in group["params"]:
                if p not in self._handles and p.requires_grad:
                    self._handles[p] = p.register_post_accumulate_grad_hook(self._hook)

    def end(self) -> None:
        """End a step: the norm of its gradients is used to clip the next one."""
        if self._squares and self._last_norm:
            norm = math.sqrt(math.fsum(self._squares.values()))
            # A norm that is not finite would spoil all parameters in the next step.
            if math.isfinite(norm):
                self._optimizer.state[KEY] = {"norm": torch.tensor(norm, dtype=torch.float64)}
        self._squares = {}

    # ---- one gradient

    def _arrived(self, p: Tensor) -> None:
        """Step one parameter and free its gradient."""
        with torch.no_grad():
            self._take(p)

    def _take(self, p: Tensor) -> None:
        if p in self._squares:  # the last pass ended without a call of `step`
            self.end()
        self._squares[p] = 0.0
        optimizer, part = self._optimizer, self._part(p)
        found = part.check()
        self._require(part.settings, [p])
        grads = part.gathered(found, optimizer.state, same=False)
        assert grads is not None
        norm = self._norm(p, grads)
        part.prepare(grads)
        carry_out([part.act(grads, norm, optimizer.state)], lambda: None)
        p.grad = None

    def _norm(self, p: Tensor, grads: list[Tensor | None]) -> float | None:
        """Return the norm to clip by: the last step's, or in the first step that so far."""
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
        raise RuntimeError("step_in_backward: found a gradient for a parameter that is in no group")

    # ---- refusals

    def _refuse_together(self) -> None:
        if self._last_norm and all(
            group["clipnorm"] is None for group in self._optimizer.param_groups
        ):
            raise ValueError(
                f"{self._name}.step_in_backward: found clip_by_last_norm=True without clipnorm; "
                "pass clipnorm= to the optimizer"
            )

    @property
    def _name(self) -> str:
        return self._optimizer.spelling.name

    def _require(self, settings: GroupSettings, params: list[Tensor]) -> None:
        """Refuse what a step knows only when all gradients are there."""
        core, what = settings.core, f"{self._name}.step_in_backward"
        if core.clipnorm is not None and not self._last_norm:
            raise ValueError(
                f"{what}: clipnorm={core.clipnorm!r} needs the norm of all gradients, which never "
                "exist at the same time; clip_by_last_norm=True uses the norm of the last step, "
                "clipnorm_per_tensor= and clipvalue= clip each gradient separately"
            )
        if core.nonfinite != "ignore":
            raise ValueError(
                f"{what}: nonfinite={core.nonfinite!r} needs all gradients before "
                'the first parameter is stepped; set nonfinite="ignore"'
            )
        for name in ("skip_spikes", "skip_loss_spikes", "measure"):
            if value := getattr(core, name):
                raise ValueError(
                    f"{what}: {name}={value!r} needs all gradients of a step at once; "
                    f"take its steps with step(), or leave {name} out"
                )
        if settings.together():
            raise ValueError(
                f"{what}: {self._name} needs totals over all parameters of a group; take its "
                "steps with step()"
            )
        if any(map(is_shared_out, params)):
            raise ValueError(
                f"{what}: found parameters that are sharded over processes, whose gradients are "
                "reduced after the backward pass; take their steps with step()"
            )
