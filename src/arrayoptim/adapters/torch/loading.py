"""State dicts for torch to load, whose tensors keep their dtypes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from .shards import Tensor
from .spelling import Spelling
from .state_entries import Entry


class Loaded:
    """Wraps an entry of a state, so that torch does not cast it."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.entry = entry

    def on(self, p: Tensor, numbers: Collection[str]) -> Entry:
        """Return copies, of slots on the device of their parameter, of scalars on the host."""
        return {
            name: x.detach().clone().to("cpu" if name in numbers else p.device)
            if isinstance(x, torch.Tensor)
            else x
            for name, x in self.entry.items()
        }


def checked(spelling: Spelling, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return a state dict, possibly from another class, without entries that are computed here.

    Raises
    ------
    ValueError
        If it belongs to another class.
    """
    for group in state_dict["param_groups"]:
        spelling.require_saved(group)
    row = spelling.row
    needless = {*row.derived} - {*row.slots} if row is not None else set[str]()
    if not needless:
        return state_dict
    state = {
        k: {name: x for name, x in entry.items() if name not in needless}
        if isinstance(entry, Mapping)
        else entry
        for k, entry in state_dict["state"].items()
    }
    return {**state_dict, "state": state}


def wrapped(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return a state dict with entries wrapped, so that torch does not change them."""
    state = {
        k: Loaded(entry) if isinstance(entry, Mapping) else entry
        for k, entry in state_dict["state"].items()
    }
    return {**state_dict, "state": state}
