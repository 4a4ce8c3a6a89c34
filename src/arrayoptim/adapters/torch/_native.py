"""Changing between torch's own optimizers and these in the middle of a training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..._registry import lookup
from ._base import TorchOptimizer
from ._classes import class_of

Settings = dict[str, Any]


@dataclass(frozen=True)
class Native:
    """How an optimizer of torch and one of this library say the same.

    Attributes
    ----------
    ours, theirs : str
        The names of the classes.
    keys : dict of str to str
        Keys of a parameter group: torch's, ours.
    slots : dict of str to str
        Slots and scalar state: torch's, ours.
    factors : dict of str to float
        Where a slot of ours is this times the learning rate times torch's.
    eps : str
        How epsilon is used otherwise; empty where it is not.
    """

    ours: str
    theirs: str
    keys: dict[str, str]
    slots: dict[str, str]
    factors: dict[str, float] = field(default_factory=dict)
    eps: str = ""


_MOMENTS = {"exp_avg": "momentum", "exp_avg_sq": "velocity", "max_exp_avg_sq": "velocity_hat"}
_ADAM = "epsilon is added before the bias correction here and after it in torch"

TABLE = (
    Native("SGD", "SGD", {"momentum": "momentum", "nesterov": "nesterov"},
           {"momentum_buffer": "momentum"}, {"momentum": -1.0}),
    Native("RMSprop", "RMSprop",
           {"alpha": "rho", "eps": "eps", "momentum": "momentum", "centered": "centered"},
           {"square_avg": "velocity", "momentum_buffer": "momentum",
            "grad_avg": "average_gradient"}, {"momentum": 1.0}),
    Native("Adagrad", "Adagrad", {"lr_decay": "decay", "eps": "eps"}, {"sum": "accumulator"}),
    Native("Adadelta", "Adadelta", {"rho": "rho", "eps": "eps"},
           {"square_avg": "accumulated_grad", "acc_delta": "accumulated_delta_var"}),
    Native("Adam", "AdamW", {"betas": "betas", "eps": "eps", "amsgrad": "amsgrad"}, _MOMENTS,
           eps=_ADAM),
    Native("Adam", "Adam", {"betas": "betas", "eps": "eps", "amsgrad": "amsgrad"}, _MOMENTS,
           eps=_ADAM),
    Native("Adamax", "Adamax", {"betas": "betas", "eps": "eps"},
           {"exp_avg": "momentum", "exp_inf": "norm"},
           eps="epsilon is added to the norm here and to the gradient's magnitude in torch"),
    Native("Nadam", "NAdam", {"betas": "betas", "eps": "eps", "momentum_decay": "schedule_decay"},
           {"exp_avg": "momentum", "exp_avg_sq": "velocity", "mu_product": "m_schedule"}),
)  # fmt: skip

_WORDS = {"params", "param_names", "lr", "weight_decay", "decoupled_weight_decay", "maximize",
          "dampening", "foreach", "fused", "capturable", "differentiable",
          "initial_accumulator_value"}  # fmt: skip
"""Keys of torch's groups that every pair has in common, or that need no counterpart."""


def from_torch(native: torch.optim.Optimizer) -> TorchOptimizer:
    """Go on with an optimizer of this library where one of torch's stands.

    Parameters
    ----------
    native : torch.optim.Optimizer
        An Adam, AdamW, SGD, RMSprop, Adagrad, Adadelta, Adamax or NAdam. It stays as it is. Where
        there is only its ``state_dict``, make it anew and load that first.

    Returns
    -------
    TorchOptimizer
        Over the same parameters, with the same settings and copies of its moments and counts.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If it dampens its momentum, which nothing here does.

    Warns
    -----
    UserWarning
        If the two formulas differ: in the place of epsilon, in what a new learning rate does to
        momentum that there is already, or in counts per parameter.

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
    groups = [_our_group(pair, group) for group in native.param_groups]
    made = class_of(lookup(pair.ours))(groups)
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
        An Adam, SGD, RMSprop, Adagrad, Adadelta, Adamax or Nadam. It stays as it is.

    Returns
    -------
    torch.optim.Optimizer
        Over the same parameters, with the same settings and copies of the moments and counts.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If it has settings that torch's lacks, or momentum that a learning rate of 0 conceals.

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
    if decoupled and pair.theirs != "AdamW":
        raise ValueError(f"to_torch: torch's {pair.theirs} has no decoupled weight_decay")
    made: torch.optim.Optimizer = getattr(torch.optim, pair.theirs)(
        [_their_group(pair, group) for group in groups]
    )
    _say(pair, optimizer)
    made.state.clear()
    for group in groups:
        for p in group["params"]:
            if optimizer.state.get(p):
                made.state[p] = _their_entry(pair, optimizer.state[p], group, p)
    return made


# ---- settings


def _our_group(pair: Native, group: Mapping[str, Any]) -> Settings:
    if group.get("dampening") and group["momentum"]:
        raise ValueError(
            f"from_torch: found dampening={group['dampening']}, and no momentum here is dampened; "
            "set it to 0 first"
        )
    found = {ours: group[theirs] for theirs, ours in pair.keys.items()}
    found |= {"lr": group["lr"], "maximize": group["maximize"]}
    decoupled = pair.theirs == "AdamW" or group.get("decoupled_weight_decay", False)
    if group["weight_decay"]:
        found["weight_decay" if decoupled else "l2"] = group["weight_decay"]
    # A scheduler's own words, such as initial_lr, and those of the user go along.
    found |= {k: v for k, v in group.items() if k not in _WORDS and k not in pair.keys}
    return found | {"params": _parameters(group)}


def _their_group(pair: Native, group: Mapping[str, Any]) -> Settings:
    names = class_of(lookup(pair.ours)).spelling
    known = {*pair.keys.values(), "lr", "l2", "weight_decay", "maximize", "name", "master",
             "threads", "seed"}  # fmt: skip
    defaults = names.defaults({})
    lost = {k: group[k] for k in names.keys if k not in known and group[k] != defaults[k]}
    if lost:
        settings = ", ".join(f"{k}={v!r}" for k, v in lost.items())
        raise ValueError(f"to_torch: torch's {pair.theirs} has nothing for {settings}")
    if group["weight_decay"] is not None and group["l2"] is not None:
        raise ValueError("to_torch: torch has either weight_decay or l2, found both")
    found = {theirs: group[ours] for theirs, ours in pair.keys.items()}
    found |= {"lr": group["lr"], "maximize": group["maximize"]}
    found["weight_decay"] = group["weight_decay"] or group["l2"] or 0.0
    own = {*names.keys, "params", "param_names"}
    found |= {k: v for k, v in group.items() if k not in own and k not in found}
    return found | {"params": _parameters(group)}


def _parameters(group: Mapping[str, Any]) -> list[Any]:
    names = group.get("param_names")
    return list(zip(names, group["params"], strict=True)) if names else list(group["params"])


# ---- state


def _our_entry(pair: Native, theirs: Mapping[str, Any], group: Settings, p: Any) -> Settings:
    found: Settings = {}
    for name, slot in pair.slots.items():
        x = theirs.get(name)
        if slot == "m_schedule":
            found[slot] = _count(float(theirs[name]))
        elif x is not None:
            found[slot] = x * _factor(pair, slot, group) if slot in pair.factors else x.clone()
    if pair.ours == "SGD" and "momentum" not in found:
        found["momentum"] = torch.zeros_like(p)
    return found


def _even(made: TorchOptimizer, pair: Native) -> None:
    """Give the parameters of a group the same scalar state: that of the first."""
    if "m_schedule" not in pair.slots.values():
        return
    for group in made.param_groups:
        entries = [made.state[p] for p in group["params"] if made.state.get(p)]
        for entry in entries:
            entry["m_schedule"] = min((e["m_schedule"] for e in entries), key=float)


def _their_entry(pair: Native, ours: Mapping[str, Any], group: Settings, p: Any) -> Settings:
    found: Settings = {}
    kind = torch.float32
    for name, slot in pair.slots.items():
        if slot == "m_schedule":
            found[name] = ours[slot].to(kind)
        elif slot in ours:
            x = ours[slot]
            if slot in pair.factors:
                x = x / _factor(pair, slot, group) if group["momentum"] else None
            found[name] = x if x is None else x.to(p.dtype, copy=True)
    if "master" in ours:
        warnings.warn(
            f"torch keeps state in the parameter's own {p.dtype}; the float32 values and moments "
            "are rounded to it",
            stacklevel=3,
        )
    return found if pair.ours == "SGD" else found | {"step": ours["step"].to(kind)}


def _factor(pair: Native, slot: str, group: Settings) -> float:
    lr = float(group["lr"])
    if lr == 0:
        raise ValueError(
            "momentum here holds the learning rate and in torch it does not; at lr=0 one does not "
            "follow from the other. Set the lr with which the last step was taken"
        )
    return pair.factors[slot] * lr


def _count(value: float) -> torch.Tensor:
    return torch.tensor(float(value), dtype=torch.float64)


def _say(pair: Native, ours: TorchOptimizer) -> None:
    """Warn of what is different on the two sides."""
    groups = ours.param_groups
    if pair.eps and any(group["eps"] for group in groups):
        warnings.warn(f"{pair.ours}: {pair.eps}; with eps=0 they agree", stacklevel=3)
    if pair.factors and any(group["momentum"] for group in groups):
        warnings.warn(
            f"{pair.ours}: a new lr takes hold of the steps to come here, and of the momentum that "
            "there is already in torch; while lr stays they agree",
            stacklevel=3,
        )
