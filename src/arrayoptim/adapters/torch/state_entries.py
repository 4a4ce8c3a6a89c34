"""Torch's state of each parameter: slots, and counters and scalar state as 0-d tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from ...arrays.trees import Structure
from ...numerics.slots import Layout
from ...step import checks
from ...step.session import session_of
from ...step.summary import Summary, summary_of
from .counts import Numbers, numbers_of
from .group_settings import GroupSettings
from .meshes import MeshSpread
from .shards import Tensor, in_parts, is_shared_out, local

Entry = dict[str, Any]

COUNTERS = ("step", "skipped")
"""The keys of a state's entry other than slots and scalar state."""


class Fitted(NamedTuple):
    """What a state has for some parameters of a group.

    Attributes
    ----------
    structure : Structure
        The paths of the parameters.
    leaves, layouts : sequence
        For each parameter its description, and how its slots are stored.
    held : list of dict
        For each parameter its slots, empty where it has none yet.
    numbers : list of dict
        For each parameter its counters and scalar state.
    """

    structure: Structure
    leaves: tuple[checks.Leaf | None, ...]
    layouts: Sequence[Layout | None]
    held: list[dict[str, Tensor]]
    numbers: list[Numbers]


def fitted(
    settings: GroupSettings,
    params: Sequence[Tensor],
    leaves: Sequence[Tensor],
    state: Mapping[Tensor, Entry],
) -> Fitted:
    """Check the entries of a state for some parameters of a group, and return what they hold.

    Raises
    ------
    ValueError
        If slots are missing or misshapen, or parameters differ in a counter that their rule has
        for all together.
    """
    structure, described = _described(settings, params, leaves)
    session = session_of(settings.core)
    scalars, layouts = session.settings.initial_scalars(), session.assign(described).layouts
    held: list[dict[str, Tensor]] = []
    entries = []
    for p, leaf, layout in zip(params, described, layouts, strict=True):
        assert leaf is not None
        assert layout is not None
        wanted = layout.slots(leaf.dtype)
        entry = _entry(settings, state.get(p) or {}, (*wanted, *scalars))
        found = {name: x for name, x in entry.items() if name in wanted and x is not None}
        if entry:
            _refuse_otherwise_shared_out(found, p, leaf.path)
            whole = layout.shapes(leaf.shape, leaf.dtype)
            shapes = {name: leaf.part(shape) for name, shape in whole.items()}
            faults = _faults(entry, found, shapes, wanted, scalars, settings.word)
            if faults:
                raise ValueError(f"the state of {leaf} does not fit {settings.core!r}. {faults}")
        entries.append(entry)
        held.append(_slots(found, wanted))
        _refuse_unshardable(settings, p, leaf.path, layout)
    return Fitted(structure, described, layouts, held, _numbers(settings, entries, scalars))


def numbers_on_host(settings: GroupSettings) -> set[str]:
    """Return the names, in torch's state, of the numbers that lie on the host."""
    scalars = session_of(settings.core).settings.initial_scalars()
    return {*COUNTERS, *map(settings.word, scalars)}


def summarized(settings: GroupSettings) -> Summary:
    """Return the state of a group, see `Optimizer.summary`."""
    params = list({id(p): p for p in settings.group["params"]}.values())
    _, described = _described(settings, params, list(map(local, params)))
    return summary_of(session_of(settings.core), described, settings.name)


def _described(
    settings: GroupSettings, params: Sequence[Tensor], leaves: Sequence[Tensor]
) -> tuple[Structure, tuple[checks.Leaf | None, ...]]:
    paths = settings.paths()
    structure = Structure(tuple(paths[id(p)] for p in params), list)
    return structure, MeshSpread(params).described(checks.describe(leaves, structure))


def _entry(settings: GroupSettings, entry: Entry, names: Iterable[str]) -> Entry:
    """Return the state of a parameter under our names; empty before its first step."""
    words = {settings.word(name): name for name in names}
    # Others may keep something of their own in an entry.
    if all(entry.get(word) is None for word in ("step", *words)):
        return {}
    found = {words.get(word, word): x for word, x in entry.items()}
    if "step" not in found and "momentum_buffer" in words:
        found["step"] = 1.0  # torch's SGD does not count, but a buffer shows a step
    return found


def _numbers(
    settings: GroupSettings, entries: Sequence[Entry], scalars: Mapping[str, float]
) -> list[Numbers]:
    if not settings.together():
        return [numbers_of(entry, scalars) for entry in entries]
    known = [numbers_of(entry, scalars) for entry in entries if entry]
    for own in known:
        if own != known[0]:
            raise ValueError(
                f"{settings.name} counts the steps of a group as a whole; its parameters "
                f"have {known[0]} and {own}. Give them groups of their own"
            )
    start = known[0] if known else None
    return [numbers_of(entry, scalars, start) for entry in entries]


def _faults(
    entry: Entry,
    found: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, str],
    scalars: Iterable[str],
    word: Callable[[str], str],
) -> str:
    """Return what does not fit in an entry; empty where all fits."""
    missing = [name for name in (*wanted, *scalars, "step") if entry.get(name) is None]
    # Entries may have foreign keys.
    others = [name for name in entry if name not in (*wanted, *scalars, *COUNTERS)]
    faults = {
        "missing": list(map(word, missing)),
        "unexpected": others if missing else [],
        "misshapen": [
            f"{word(name)} {seen}, wanted {shapes[name]}"
            for name, x in found.items()
            if (seen := _seen(x)) != shapes[name]
        ],
    }
    if not any(faults.values()):
        return ""
    return "; ".join(f"{k}: {', '.join(row) or 'none'}" for k, row in faults.items())


def _refuse_otherwise_shared_out(found: Mapping[str, Any], p: Tensor, path: str) -> None:
    """Refuse whole slots of a sharded parameter, and sharded slots of a whole one."""
    for name, x in found.items():
        if isinstance(x, torch.Tensor) and is_shared_out(p) != is_shared_out(x):
            raise ValueError(
                f"{name} of parameter {path!r}: found a {type(x).__name__}, but the parameter is a "
                f"{type(p).__name__}; torch.distributed.checkpoint loads state sharded like the "
                "parameters"
            )


def _slots(found: Mapping[str, Any], wanted: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the slots in their order, each as what this process holds of it, in its dtype."""
    slots = {}
    for name, kind in wanted.items() if found else ():
        here, dtype = local(found[name]), getattr(torch, kind)
        slots[name] = here if here.dtype == dtype else here.to(dtype)
    return slots


def _refuse_unshardable(settings: GroupSettings, p: Tensor, path: str, layout: Layout) -> None:
    if not in_parts(p):
        return
    name, core = settings.name, settings.core
    if core.agc is not None and layout.rule.totals:
        raise ValueError(
            f"{name} with agc measures gradients that were clipped as wholes; of "
            f"parameter {path!r} a process holds only a part ({p.placements}). Use clipnorm, "
            "or parameters that are replicated, as under DDP"
        )
    if core.state_dtype == "int8":
        raise ValueError(
            f'{name}: state_dtype="int8" keeps blocks of numbers, which the '
            f"parts of parameter {path!r} ({p.placements}) cut through; use "
            'state_dtype="bfloat16"'
        )


def _seen(x: Any) -> Any:
    return tuple(local(x).shape) if isinstance(x, torch.Tensor) else type(x).__name__
