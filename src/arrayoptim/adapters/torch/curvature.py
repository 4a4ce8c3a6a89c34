"""Methods of torch classes whose curvature estimates come from the caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...optimizers._curvature import averaged
from .group_settings import GroupSettings
from .shards import local


def update_hessian(self: Any, estimates: Sequence[Any]) -> None:
    """Update the running mean of the Hessian's diagonal with a new estimate, after the first step.

    Parameters
    ----------
    estimates : sequence of torch.Tensor or None
        One per parameter, group by group; None leaves a parameter's mean unchanged.

    Raises
    ------
    ValueError
        If the number or a shape of the estimates is wrong, or a parameter has not taken a step.
        Nothing has changed then.
    """
    name, given = type(self).__name__, list(estimates)
    pairs = [(group, p) for group in self.param_groups for p in group["params"]]
    if len(given) != len(pairs):
        raise ValueError(
            f"{name}.update_hessian: found {len(given)} estimates, wanted {len(pairs)}, one per "
            "parameter"
        )
    means = []
    for place, ((_, p), estimate) in enumerate(zip(pairs, given, strict=True)):
        if estimate is None:
            continue
        if tuple(estimate.shape) != tuple(p.shape):
            raise ValueError(
                f"{name}.update_hessian: estimate {place} has shape {tuple(estimate.shape)}, "
                f"wanted {tuple(p.shape)}, that of its parameter"
            )
        if "hessian" not in self.state.get(p, {}):
            raise ValueError(
                f"{name}.update_hessian: parameter {place} has no state yet; take a step first"
            )
        means.append((place, local(self.state[p]["hessian"]), local(estimate)))
    betas = [GroupSettings(self.spelling, group).core.beta_2 for group, _ in pairs] if means else []
    with torch.no_grad():
        for place, mean, estimate in means:
            mean.copy_(averaged(mean, estimate.detach(), betas[place]))
