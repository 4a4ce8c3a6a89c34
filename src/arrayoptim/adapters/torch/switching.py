"""Switching between torch's own optimizers and these in the middle of training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from ...arrays.libraries import type_name
from ...config.registry import lookup
from ...config.torch import SCALARS, TABLE, Native, Settings
from ...optimizer import Optimizer
from .base import TorchOptimizer
from .classes import class_of
from .derived_numbers import derived
from .group_settings import GroupSettings
from .lbfgs import LBFGS
from .spelling import CLASS, Spelling

NEEDLESS = {"preset", "name", "master", "threads", "seed", "outputs"}
"""Settings that torch's optimizers can ignore."""


def from_torch(native: torch.optim.Optimizer, preset: str | None = "torch") -> Any:
    """Return an optimizer of this library that continues where one of torch's stopped.

    Parameters
    ----------
    native : torch.optim.Optimizer
        An instance of a torch class that exists here under the same name. It is not changed. If
        you have only its ``state_dict``, use ``load_state_dict`` of the class here instead.
    preset : {"torch", None}
        Whether to continue with torch's formula, or with this library's own (None).

    Returns
    -------
    TorchOptimizer or LBFGS
        An optimizer of the same parameters, with the same settings and copies of its state.

    Raises
    ------
    TypeError
        If it is an optimizer of another class.
    ValueError
        If `preset` is invalid, or a slot cannot be converted because the learning rate is 0.

    Warns
    -----
    UserWarning
        If the two formulas differ without the preset: in the place of epsilon, or in the effect
        of a new learning rate on existing state.

    Examples
    --------
    >>> import torch
    >>> import arrayoptim as ao
    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> native = torch.optim.Adagrad([w], lr=0.1)
    >>> ao.torch.from_torch(native).param_groups[0]["lr"]
    0.1
    """
    if type(native) is torch.optim.LBFGS:
        return _searching(LBFGS, native)
    row = next((row for row in TABLE if type(native) is getattr(torch.optim, row.theirs)), None)
    if row is None:
        known = ", ".join(sorted({row.theirs for row in TABLE} | {"LBFGS"}))
        raise TypeError(f"from_torch: found a {type(native).__qualname__}, wanted one of {known}")
    if preset not in (None, "torch"):
        raise ValueError(f"from_torch: found preset={preset!r}, wanted 'torch' or None")
    groups = [dict(group) | {"params": _parameters(group)} for group in native.param_groups]
    cls = class_of(lookup(row.ours), row)
    made = cls(groups, preset=row.formula if preset else None)
    _say(made)
    for group in made.param_groups:
        words = made.spelling.state_names(group["preset"])
        for p in group["params"]:
            entry = {k: x for k, x in (native.state.get(p) or {}).items() if x is not None}
            if entry:
                ours = _our_entry(row, entry, group, p)
                made.state[p] = {words.get(name, name): x for name, x in ours.items()}
    return made


def to_torch(optimizer: TorchOptimizer | LBFGS) -> torch.optim.Optimizer:
    """Return an optimizer of torch that continues where one of this library stopped.

    Parameters
    ----------
    optimizer : TorchOptimizer or LBFGS
        An instance of a class that torch has too, or a NadamW. It is not changed.

    Returns
    -------
    torch.optim.Optimizer
        An optimizer of the same parameters, with the same settings and copies of the state.

    Raises
    ------
    TypeError
        If it is an optimizer of another class.
    ValueError
        If torch lacks one of its settings, or a slot cannot be converted because lr is 0.

    Warns
    -----
    UserWarning
        If the two formulas differ, as in `from_torch`, or float32 state of 16-bit parameters
        is rounded.
    """
    if isinstance(optimizer, LBFGS):
        return _searching(torch.optim.LBFGS, optimizer)
    spelling: Spelling | None = getattr(optimizer, "spelling", None)
    if spelling is None or spelling.row is None:
        known = ", ".join(sorted({row.theirs for row in TABLE} | {"LBFGS", "NadamW"}))
        raise TypeError(
            f"to_torch: found {type_name(type(optimizer))}, wanted one of arrayoptim.torch: {known}"
        )
    row, groups = spelling.row, optimizer.param_groups
    native: Any = spelling.native
    made: torch.optim.Optimizer = native([their_group(spelling, group) for group in groups])
    _say(optimizer)
    made.state.clear()
    for group in groups:
        words = spelling.state_names(group["preset"])
        names = {word: name for name, word in words.items()}
        core = GroupSettings(spelling, group).core
        for p in group["params"]:
            held = optimizer.state.get(p) or {}
            entry = {names.get(k, k): x for k, x in held.items() if x is not None}
            if entry:
                made.state[p] = _their_entry(row, entry, group, p, core)
    return made


def _searching(cls: Any, optimizer: torch.optim.Optimizer) -> Any:
    """Return an L-BFGS of the other library, whose settings and state have the same names."""
    made = cls([{"params": _parameters(optimizer.param_groups[0])}])
    made.load_state_dict(optimizer.state_dict())
    return made


# ---- settings


def their_group(spelling: Spelling, group: Mapping[str, Any]) -> Settings:
    """Return the settings of one of our groups as those of a torch group.

    Raises
    ------
    ValueError
        If torch has no counterpart for a setting.
    """
    row, native = spelling.row, spelling.native
    assert row is not None
    assert native is not None
    name, start = row.theirs, spelling.start(group["preset"])
    dummy = torch.nn.Parameter(torch.empty(1, 1))
    theirs = native([dummy]).defaults
    free = {*theirs, *NEEDLESS, "foreach", "fused", "capturable", "differentiable"}
    lost = {k: group[k] for k in start if k not in free and group[k] != start[k]}
    if group["decoupled_weight_decay"] == row.decoupled or not group["weight_decay"]:
        lost.pop("decoupled_weight_decay", None)
    if lost:
        settings = ", ".join(f"{k}={v!r}" for k, v in lost.items())
        raise ValueError(f"to_torch: torch's {name} has no counterpart for {settings}")
    # Keys of schedulers, such as initial_lr, and of users are copied.
    own = {*start, "params", "param_names", CLASS} - {*theirs}
    return {k: v for k, v in group.items() if k not in own} | {"params": _parameters(group)}


def _parameters(group: Mapping[str, Any]) -> list[Any]:
    names = group.get("param_names")
    return list(zip(names, group["params"], strict=True)) if names else list(group["params"])


# ---- state


def _our_entry(row: Native, theirs: Mapping[str, Any], group: Settings, p: Any) -> Settings:
    """Return torch's state of a parameter by our names."""
    named = row.named(group["preset"])
    found: Settings = {}
    for word, x in theirs.items():
        slot = named.get(word, word)
        if word in row.derived and not named.get(word):
            continue
        if slot in SCALARS or slot == "step":
            found[slot] = torch.tensor(float(x), dtype=torch.float64)
        elif slot:
            x = x.detach().clone() if isinstance(x, torch.Tensor) else x
            if word in row.averaged and group["preset"] != row.formula:
                x = x.squeeze(row.averaged[word])
            found[slot] = x * row.factor(slot, group["lr"]) if slot in row.scaled else x
    if row.ours == "SGD" and group["preset"] != row.formula:
        found.setdefault("momentum", torch.zeros_like(p))
    if row.ours == "SGD":
        found.setdefault("step", torch.tensor(1.0, dtype=torch.float64))
    return found


def _their_entry(
    row: Native, ours: Mapping[str, Any], group: Settings, p: Any, core: Optimizer
) -> Settings:
    """Return this library's state of a parameter by torch's names."""
    found: Settings = {}
    named = row.named(group["preset"])
    scalars = {name: float(ours[name]) for name in SCALARS if name in ours}
    numbers = derived(row, core, int(ours["step"]), scalars)
    for word, slot in named.items():
        if slot in SCALARS:
            numbers[word] = float(ours[slot])
        elif slot in ours and (group["momentum"] if word == "momentum_buffer" else True):
            x = ours[slot]
            if word in row.averaged and group["preset"] != row.formula:
                x = x.unsqueeze(row.averaged[word])
            x = x / row.factor(slot, group["lr"]) if slot in row.scaled else x
            found[word] = x.to(p.dtype, copy=True)
    if row.ours != "SGD":
        numbers["step"] = float(ours["step"])
    if "master" in ours:
        warnings.warn(
            f"torch keeps state in the parameter's dtype, {p.dtype}; float32 masters and moments "
            "are rounded to it",
            stacklevel=3,
        )
    return found | {word: torch.tensor(x) for word, x in numbers.items()}


def _say(ours: TorchOptimizer) -> None:
    """Warn about differences between the two formulas."""
    row = ours.spelling.row
    assert row is not None
    for said in dict.fromkeys(row.said(ours.spelling.plain(group)) for group in ours.param_groups):
        if said:
            warnings.warn(said, stacklevel=3)
