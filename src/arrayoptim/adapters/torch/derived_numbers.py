"""Scalars that torch keeps as state, but this library computes for each step."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ...config.torch import SCALARS, Native
from ...optimizer import Optimizer
from .group_settings import GroupSettings
from .grouped import Grouped


def derived(row: Native, core: Optimizer, it: int, scalars: Mapping[str, Any]) -> dict[str, float]:
    """Return the scalars of the next step that torch keeps as state, but this library computes."""
    if not row.derived:
        return {}
    h = SimpleNamespace(**{name: getattr(core, name) for name in core.hyperparameters})
    found = core.coefficients(h, it, scalars, np)
    return {name: float(found[name]) for name in row.derived}


def with_derived(optimizer: Grouped, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return a state dict with those scalars added, so that torch's own class can load it.

    Parameters
    ----------
    optimizer : Grouped
        The optimizer of the state dict.
    state_dict : dict
        Its groups and state.
    """
    spelling = optimizer.spelling
    row = spelling.row
    if row is None or not row.derived:
        return state_dict
    state = dict(state_dict["state"])
    for group, saved in zip(optimizer.param_groups, state_dict["param_groups"], strict=True):
        if group["preset"] != row.formula:
            continue
        core = GroupSettings(spelling, group).core
        words = spelling.state_names(group["preset"])
        for i in saved["params"]:
            entry = state.get(i) or {}
            if "step" not in entry:
                continue
            scalars = {k: float(entry[w]) for k in SCALARS if (w := words.get(k, k)) in entry}
            new = derived(row, core, int(entry["step"]), scalars)
            own = {k: torch.tensor(x, dtype=torch.float64) for k, x in new.items()}
            state[i] = {**entry, **{k: x for k, x in own.items() if k not in words.values()}}
    return {**state_dict, "state": state}
