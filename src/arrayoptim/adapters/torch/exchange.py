"""Exchange of state dicts with torch's own optimizers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..._typing import Array, Tree
from ...arrays.libraries import backend_of, type_name
from ...arrays.trees import listed, plain
from ...config.torch import SCALARS, TABLE, Native, Settings, native_of, natives_of
from ...optimizer import Optimizer
from ...persistence import Record
from ...step.restore import LoadReport, by_name
from ...step.save_and_load import load_into, record_of
from ...step.session import session_of
from ..tree_order import in_order
from .derived_numbers import derived
from .spelling import Spelling
from .switching import their_group


def load_state(
    optimizer: Optimizer,
    state_dict: Mapping[str, Any],
    params: Tree,
    hyperparameters: bool = True,
    strict: bool = True,
) -> LoadReport:
    """Load the state of one of torch's own optimizers.

    Parameters
    ----------
    optimizer : Optimizer
        An Adam, AdamW, SGD, RMSprop, Adagrad, Adadelta, Adamax, Nadam, NadamW, RAdam, ASGD or Rprop
        of this library. With ``preset="torch"`` training continues exactly.
    state_dict : dict
        As from the ``state_dict`` method of torch's optimizer.
    params : tree of arrays
        The parameters, of any array library, in the order in which torch had them; or a
        possibly nested dict keyed by torch's names. If the state has these names too, like that
        of an optimizer made from ``model.named_parameters()``, they are matched by name.
    hyperparameters : bool
        Whether to load the settings of the parameter groups, where the groups agree.
    strict : bool
        Whether every difference between state and parameters is an error. Otherwise, entries
        that fit are loaded.

    Returns
    -------
    LoadReport
        What was restored.

    Raises
    ------
    TypeError
        If the optimizer is of another class.
    ValueError
        If the state belongs to another optimizer or other parameters. Nothing has changed then.

    Warns
    -----
    UserWarning
        If the two formulas differ, or groups differ in a setting that is shared here.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import arrayoptim as ao
    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> native = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    >>> w.sum().backward()
    >>> native.step()
    >>> optimizer = ao.SGD(preset="torch")
    >>> _ = ao.torch.load_state(optimizer, native.state_dict(), [np.ones(2, np.float32)])
    >>> optimizer.get_weights()[1]
    array([1., 1.], dtype=float32)
    """
    pair = _pair_of(optimizer, "load_state")
    held, groups = in_order(params), _groups_of(state_dict)
    paths = _paths(groups, params, held)
    preset = optimizer.preset
    record = Record("torch", None, {}, _steps(state_dict), {}, {}, {}, origin="the state of torch")
    if hyperparameters:
        record.config = _settings(pair, groups)
    elif any(group.get("maximize") for group in groups):
        raise ValueError("load_state: found maximize=True, which this library does not support")
    for group in groups:
        for i in group["params"]:
            theirs = state_dict["state"].get(i) or {}
            _enter(record, pair, theirs, group, paths[i], held.get(paths[i]), optimizer)
    report = load_into(
        session_of(optimizer), params, record, strict=strict, hyperparameters=hyperparameters
    )
    if said := pair.said({**session_of(optimizer).settings.whole, "preset": preset}):
        warnings.warn(said, stacklevel=2)
    return report


def export_state(optimizer: Optimizer, params: Tree) -> dict[str, Any]:
    """Return the state as a ``state_dict`` that one of torch's own optimizers loads.

    Parameters
    ----------
    optimizer : Optimizer
        An optimizer that `load_state` accepts. It is not changed.
    params : tree of arrays
        Its parameters, in the order in which torch has them.

    Returns
    -------
    dict
        For the ``load_state_dict`` method of torch's optimizer over the same parameters; that of
        AdamW for an Adam with `weight_decay`.

    Raises
    ------
    TypeError
        If the optimizer is of another class.
    ValueError
        If it has no state, or settings that torch's optimizer lacks.

    Warns
    -----
    UserWarning
        If the two formulas differ.
    """
    pair = _pair_of(optimizer, "export_state")
    if optimizer.groups:
        raise ValueError(f"export_state: {optimizer!r} has groups, unlike torch's own")
    record = record_of(session_of(optimizer))
    paths = list(in_order(params))
    now = {name: getattr(optimizer, name) for name in optimizer.hyperparameters}
    if pair.theirs == "Adam" and now["weight_decay"] is not None:
        pair = native_of("AdamW") or pair
    spelling = Spelling(type(optimizer), pair)
    given = their_group(spelling, spelling.keyed(now) | {"params": []})
    native: Any = getattr(torch.optim, pair.theirs)
    made = native([given | {"params": [torch.nn.Parameter(torch.empty(0)) for _ in paths]}])
    numbers = derived(pair, optimizer, optimizer.iterations, record.scalars)
    columns = {
        slot: dict(zip((record.paths or {})[slot], arrays, strict=True))
        for slot, arrays in record.slots.items()
    }
    if said := pair.said(now):
        warnings.warn(said, stacklevel=2)
    found: dict[str, Any] = made.state_dict()
    found["state"] = {
        i: _given(pair, columns, record, path, now, numbers)
        for i, path in enumerate(paths)
        if record.iterations
    }
    return found


# ---- the parameters


def _pair_of(optimizer: Any, what: str) -> Native:
    found = natives_of(type(optimizer).__name__)
    if not isinstance(optimizer, Optimizer) or not found:
        known = ", ".join(sorted({row.ours for row in TABLE}))
        raise TypeError(
            f"{what}: found {type_name(type(optimizer))}, wanted "
            f"one of arrayoptim: {known}; for those of arrayoptim.torch, use from_torch and "
            "to_torch"
        )
    return found[0]


def _groups_of(state_dict: Any) -> list[dict[str, Any]]:
    if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
        raise ValueError(
            f"load_state: found a {type(state_dict).__name__}, wanted a dict as from state_dict() "
            "of an optimizer, with 'state' and 'param_groups'"
        )
    return list(state_dict["param_groups"])


def _paths(
    groups: Sequence[Mapping[str, Any]], params: Tree, held: Mapping[str, Array]
) -> dict[int, str]:
    """Return each parameter's path by torch's index; its name if there is no such parameter."""
    numbers = [i for group in groups for i in group["params"]]
    names = [str(name) for group in groups for name in group.get("param_names", ())]
    if isinstance(params, Mapping) and len(names) == len(numbers):
        # Torch separates the names of modules by dots.
        paths = {plain(path).replace("/", "."): path for path in held}
        found, _, _ = by_name(names, list(paths), "load_state: the state")
        return dict(zip(numbers, names, strict=True)) | {
            numbers[k]: paths[name] for name, k in found.items()
        }
    if len(held) != len(numbers):
        raise ValueError(
            f"load_state: found the state of {len(numbers)} parameters, wanted {len(held)}: "
            f"{listed([*held])}; those of the state are {listed(names) or 'without names'}. To "
            "match by name, pass the parameters as a dict, and the state of an "
            "optimizer that was made from model.named_parameters()"
        )
    return dict(zip(numbers, held, strict=True))


# ---- from torch


def _steps(state_dict: Mapping[str, Any]) -> int | None:
    steps = {float(e["step"]) for e in state_dict["state"].values() if "step" in e}
    if len(steps) > 1:
        warnings.warn(
            f"torch counted between {min(steps):.0f} and {max(steps):.0f} steps for different "
            "parameters, but here they share one count; the largest is used",
            stacklevel=3,
        )
    if not steps and any(group.get("dampening") for group in state_dict["param_groups"]):
        return 1  # torch's SGD does not count steps; only its first is not dampened
    return int(max(steps)) if steps else None


def _settings(pair: Native, groups: Sequence[Mapping[str, Any]]) -> Settings:
    """Return the settings that all groups share, by our names."""
    rows = []
    for group in groups:
        if group.get("maximize"):
            raise ValueError("load_state: found maximize=True, which is not supported here")
        late = {"dampening", "initial_accumulator_value"}  # missing in older state dicts
        if missing := [key for key in pair.keys if key not in group and key not in late]:
            raise ValueError(
                f"load_state: found parameter groups without {', '.join(missing)}, which torch's "
                f"{pair.theirs} has; does the state belong to another optimizer?"
            )
        row = pair.settings(group) | {"lr": float(group["lr"])}
        decay = group.get("weight_decay") or None
        decoupled = group.get("decoupled_weight_decay", pair.decoupled)
        own = 0.0 if pair.decoupled else None
        row["l2"], row["weight_decay"] = (None, decay or own) if decoupled else (decay, own)
        rows.append(row)
    same = {k: v for k, v in rows[0].items() if all(row[k] == v for row in rows)}
    if lost := set(rows[0]) - set(same):
        warnings.warn(
            f"the parameter groups differ in {', '.join(sorted(lost))}, which is not loaded; "
            "use arrayoptim.group for parameters with their own settings",
            stacklevel=3,
        )
    return same


def _enter(
    record: Record,
    pair: Native,
    theirs: Mapping[str, Any],
    group: Mapping[str, Any],
    path: str,
    p: Array | None,
    optimizer: Optimizer,
) -> None:
    """Add the state of a parameter; entries that torch has not made yet get initial values.

    For a parameter that no longer exists, only the existing entries are added.
    """
    named = pair.named(optimizer.preset)
    strange = set(theirs) - {"step", *pair.derived, *named}
    if strange:
        raise ValueError(
            f"load_state: found {', '.join(sorted(theirs))} of parameter {path!r}, wanted some of "
            f"{', '.join(named)}: the state of torch's {pair.theirs}"
        )
    centered, moved = group.get("centered", True), group.get("momentum", True)
    starts = optimizer.initial_slots()
    for name, slot in named.items():
        x = theirs.get(name)
        if not slot:
            continue
        if slot in SCALARS:
            if x is not None:
                record.scalars[slot] = min(float(x), record.scalars.get(slot, float(x)))
            continue
        if x is None and (
            (name == "max_exp_avg_sq" and not group.get("amsgrad"))
            or (name == "grad_avg" and not centered)
            or (name == "momentum_buffer" and not moved and slot not in optimizer.rule.slots)
            or (pair.averaged and p is not None and _lacks(optimizer, path, p, slot))
        ):
            continue
        start = starts.get(slot, 0.0)
        if x is not None:
            array = _host(x) * pair.factor(slot, float(group["lr"]))
        elif p is None:
            continue
        elif start == "parameter":
            array = backend_of(p).to_host(p)
        else:
            array = np.full(tuple(p.shape), start, backend_of(p).to_host(p).dtype)
        record.slots.setdefault(slot, []).append(array)
        assert record.paths is not None
        record.paths.setdefault(slot, []).append(path)


def _lacks(optimizer: Optimizer, path: str, p: Array, slot: str) -> bool:
    """Whether the rule for a parameter of this shape lacks a slot."""
    return slot not in optimizer.rule_for(path, tuple(p.shape)).slots


def _host(x: torch.Tensor) -> np.ndarray:
    wide = x.detach().float() if x.dtype == torch.bfloat16 else x.detach()
    found: np.ndarray = wide.cpu().numpy()
    return found


# ---- to torch


def _given(
    pair: Native,
    columns: Mapping[str, Any],
    record: Record,
    path: str,
    group: Settings,
    numbers: Mapping[str, float],
) -> Settings:
    """Return a parameter's state in torch's form."""
    found: Settings = {}
    for name, slot in pair.named(group["preset"]).items():
        if slot in SCALARS:
            found[name] = torch.tensor(record.scalars[slot])
        elif name == "momentum_buffer" and not group["momentum"]:
            found |= {name: None} if pair.ours == "SGD" else {}
        elif path in columns.get(slot, ()):
            array = columns[slot][path]() / pair.factor(slot, float(group["lr"]))
            found[name] = torch.from_numpy(np.array(array))
    # Each parameter gets its own tensors, because torch writes into them.
    found |= {name: torch.tensor(x) for name, x in numbers.items()}
    if pair.ours != "SGD":
        found["step"] = torch.tensor(float(record.iterations or 0))
    return found
