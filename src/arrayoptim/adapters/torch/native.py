"""Changing between torch's own optimizers and these in the middle of a training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from ...config.registry import lookup
from .base import TorchOptimizer
from .classes import class_of
from .keys import CLASS
from .pairs import SCALARS, TABLE, Native, Settings, derived
from .param_group import Part

_WORDS = {"params", "param_names", "lr", "weight_decay", "decoupled_weight_decay", "maximize",
          "dampening", "foreach", "fused", "capturable", "differentiable",
          "initial_accumulator_value"}  # fmt: skip
"""Keys of torch's groups that every pair has in common, or that need no counterpart."""


def from_torch(native: torch.optim.Optimizer, preset: str | None = None) -> TorchOptimizer:
    """Go on with an optimizer of this library where one of torch's stands.

    Parameters
    ----------
    native : torch.optim.Optimizer
        An Adam, AdamW, SGD, RMSprop, Adagrad, Adadelta, Adamax, NAdam, RAdam, ASGD or Rprop. It
        stays as it is. Where there is only its ``state_dict``, make it anew and load that first.
    preset : {"torch"}, optional
        Whether to go on with torch's formula.

    Returns
    -------
    TorchOptimizer
        Over the same parameters, with the same settings and copies of its moments and counts.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If it dampens its momentum, which nothing here does, or the preset is another.

    Warns
    -----
    UserWarning
        If the two formulas differ: in the place of epsilon, in what a new learning rate does to
        state that there is already, or in counts per parameter.

    Examples
    --------
    >>> import torch
    >>> import arrayoptim as ao
    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> native = torch.optim.Adagrad([w], lr=0.1)
    >>> ao.torch.from_torch(native).param_groups[0]["lr"]
    0.1
    """
    pair = next((row for row in TABLE if type(native) is getattr(torch.optim, row.theirs)), None)
    if pair is None:
        known = ", ".join(sorted({row.theirs for row in TABLE}))
        raise TypeError(f"from_torch: found a {type(native).__qualname__}, wanted one of {known}")
    if preset not in (None, "torch"):
        raise ValueError(f"from_torch: found preset={preset!r}, wanted 'torch' or None")
    groups = [_our_group(pair, group) for group in native.param_groups]
    made = class_of(lookup(pair.ours))(groups, preset=preset)
    _say(pair, made)
    for group in made.param_groups:
        steps = {
            float(native.state[p].get("step", 0)) for p in group["params"] if p in native.state
        }
        if len(steps) > 1:
            warnings.warn(
                f"torch counted between {min(steps):.0f} and {max(steps):.0f} steps for the "
                "parameters of one group, where one count serves here; the largest is taken",
                stacklevel=2,
            )
        for p in group["params"]:
            if native.state.get(p):
                entry = _our_entry(pair, native.state[p], group, p)
                made.state[p] = entry | {"step": _count(max(steps))}
    _even(made, pair)
    return made


def to_torch(optimizer: TorchOptimizer) -> torch.optim.Optimizer:
    """Go on with an optimizer of torch where one of this library stands.

    Parameters
    ----------
    optimizer : TorchOptimizer
        An Adam, SGD, RMSprop, Adagrad, Adadelta, Adamax, Nadam, RAdam, ASGD or Rprop. It stays as
        it is.

    Returns
    -------
    torch.optim.Optimizer
        Over the same parameters, with the same settings and copies of the moments and counts.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If it has settings that torch's lacks, or state that a learning rate of 0 conceals.

    Warns
    -----
    UserWarning
        If the two formulas differ, as for `from_torch`, or float32 state of 16-bit parameters is
        rounded.
    """
    core = getattr(optimizer, "core", None)
    rows = [row for row in TABLE if core is lookup(row.ours)]
    if not rows:
        known = ", ".join(sorted({row.ours for row in TABLE}))
        raise TypeError(
            f"to_torch: found a {type(optimizer).__module__}.{type(optimizer).__qualname__}, "
            f"wanted one of arrayoptim.torch: {known}"
        )
    groups = optimizer.param_groups
    decoupled = any(group["weight_decay"] is not None for group in groups)
    pair = rows[0] if decoupled else rows[-1]
    if decoupled and not pair.decoupled:
        raise ValueError(f"to_torch: torch's {pair.theirs} has no decoupled weight_decay")
    made: torch.optim.Optimizer = getattr(torch.optim, pair.theirs)(
        [their_group(pair, group) for group in groups]
    )
    _say(pair, optimizer)
    made.state.clear()
    for group in groups:
        core = Part(class_of(lookup(pair.ours)).spelling, group).core
        for p in group["params"]:
            if entry := optimizer.state.get(p):
                scalars = {name: float(entry[name]) for name in SCALARS if name in entry}
                numbers = derived(pair, core, int(entry["step"]), scalars)
                found = _their_entry(pair, entry, group, p)
                made.state[p] = found | {k: torch.tensor(x) for k, x in numbers.items()}
    return made


# ---- settings


def _our_group(pair: Native, group: Mapping[str, Any]) -> Settings:
    if group.get("dampening") and group["momentum"]:
        raise ValueError(
            f"from_torch: found dampening={group['dampening']}, and no momentum here is dampened; "
            "set it to 0 first"
        )
    found = pair.settings(group) | {"lr": group["lr"], "maximize": group["maximize"]}
    decoupled = pair.decoupled or group.get("decoupled_weight_decay", False)
    if group.get("weight_decay"):
        found["weight_decay" if decoupled else "l2"] = group["weight_decay"]
    # A scheduler's own words, such as initial_lr, and those of the user go along.
    found |= {k: v for k, v in group.items() if k not in _WORDS and k not in pair.keys}
    return found | {"params": _parameters(group)}


def their_group(pair: Native, group: Mapping[str, Any]) -> Settings:
    """Give the settings of one of our groups as one of torch's."""
    names = class_of(lookup(pair.ours)).spelling
    known = {"lr", "l2", "weight_decay", "maximize", "name", "master", "threads", "seed"}
    for key in pair.keys.values():
        known |= {key} if isinstance(key, str) else set(key)
    known |= {"preset"} if group["preset"] == "torch" else set()
    defaults = names.defaults({})
    lost = {k: group[k] for k in names.keys if k not in known and group[k] != defaults[k]}
    if lost:
        settings = ", ".join(f"{k}={v!r}" for k, v in lost.items())
        raise ValueError(f"to_torch: torch's {pair.theirs} has nothing for {settings}")
    if group["weight_decay"] is not None and group["l2"] is not None:
        raise ValueError("to_torch: torch has either weight_decay or l2, found both")
    found = pair.keyed(group) | {"lr": group["lr"], "maximize": group["maximize"]}
    decay = group["weight_decay"] or group["l2"] or 0.0
    if pair.theirs != "Rprop":
        found["weight_decay"] = decay
    elif decay:
        raise ValueError("to_torch: torch's Rprop has no weight decay, found l2")
    own = {*names.keys, "params", "param_names", CLASS}
    found |= {k: v for k, v in group.items() if k not in own and k not in found}
    return found | {"params": _parameters(group)}


def _parameters(group: Mapping[str, Any]) -> list[Any]:
    names = group.get("param_names")
    return list(zip(names, group["params"], strict=True)) if names else list(group["params"])


# ---- state


def _our_entry(pair: Native, theirs: Mapping[str, Any], group: Settings, p: Any) -> Settings:
    found: Settings = {}
    for name, slot in pair.named(group["preset"]).items():
        x = theirs.get(name)
        if slot in SCALARS:
            found[slot] = _count(float(theirs[name]))
        elif x is not None:
            found[slot] = x * pair.factor(slot, float(group["lr"]))
    buffer = pair.named(group["preset"]).get("momentum_buffer", "")
    if pair.ours == "SGD" and buffer not in found:
        found[buffer] = torch.zeros_like(p)
    return found


def _even(made: TorchOptimizer, pair: Native) -> None:
    """Give the parameters of a group the same scalar state: that of the first."""
    for group in made.param_groups:
        entries = [made.state[p] for p in group["params"] if made.state.get(p)]
        for scalar in {*SCALARS} & {*pair.named(group["preset"]).values()}:
            least = min((e[scalar] for e in entries), key=float, default=None)
            for entry in entries:
                entry[scalar] = least


def _their_entry(pair: Native, ours: Mapping[str, Any], group: Settings, p: Any) -> Settings:
    found: Settings = {}
    kind = torch.float32
    for name, slot in pair.named(group["preset"]).items():
        if slot in SCALARS:
            found[name] = ours[slot].to(kind)
        elif slot in ours and name == "momentum_buffer" and not group["momentum"]:
            found[name] = None
        elif slot in ours:
            x = ours[slot] / pair.factor(slot, float(group["lr"]))
            found[name] = x.to(p.dtype, copy=True)
    if "master" in ours:
        warnings.warn(
            f"torch keeps state in the parameter's own {p.dtype}; the float32 values and moments "
            "are rounded to it",
            stacklevel=3,
        )
    return found if pair.ours == "SGD" else found | {"step": ours["step"].to(kind)}


def _count(value: float) -> torch.Tensor:
    return torch.tensor(float(value), dtype=torch.float64)


def _say(pair: Native, ours: TorchOptimizer) -> None:
    """Warn of what is different on the two sides."""
    for said in dict.fromkeys(map(pair.said, ours.param_groups)):
        if said:
            warnings.warn(said, stacklevel=3)
