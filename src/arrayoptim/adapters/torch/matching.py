"""Matching of entries of a state dict with parameters: by name, or by position without names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ...arrays.trees import listed
from ...step.restore import LoadReport, by_name
from .group_settings import GroupSettings
from .shards import Tensor, local
from .spelling import CLASS
from .state_entries import fitted as entries_fitted

if TYPE_CHECKING:
    from .grouped import Grouped

__all__ = ["Names", "fitted"]

Names = Sequence[str] | Mapping[str, str] | Callable[[str], str]
"""Names of a state's parameters in order, or a map from names in the state to names here."""

BY_PLACE = "matched by position"
"""Start of the note that says that parameters were matched by position."""

_OWN = ("params", "param_names", CLASS)


def fitted(
    optimizer: Grouped,
    state_dict: Mapping[str, Any],
    strict: bool,
    hyperparameters: bool,
    names: Names | None,
) -> tuple[dict[str, Any], LoadReport]:
    """Return a state dict in the order of an optimizer's parameters, and what it restores.

    Parameters
    ----------
    optimizer : Grouped
        The optimizer, which is not changed.
    state_dict : mapping
        The saved state, which is not changed.
    strict : bool
        Whether every difference is an error.
    hyperparameters : bool
        Whether to load the saved settings of the parameter groups.
    names : sequence, mapping or callable, optional
        See `TorchOptimizer.load_state_dict`.

    Raises
    ------
    TypeError
        If `names` has the wrong type.
    ValueError
        If state and optimizer do not fit each other.
    """
    saved, groups = state_dict["param_groups"], optimizer.param_groups
    there, here = _saved_names(saved, names), _names_of(groups)
    if there is None or here is None:
        return _by_place(optimizer, state_dict, hyperparameters, there is None, here is None)
    return _ByName(optimizer, state_dict, there, here).fitted(strict, hyperparameters)


def _names_of(groups: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Return the names of all parameters; None if any has none."""
    if any(len(group.get("param_names", ())) != len(group["params"]) for group in groups):
        return None
    return [str(name) for group in groups for name in group["param_names"]]


def _saved_names(groups: Sequence[Mapping[str, Any]], names: Names | None) -> list[str] | None:
    """Return the names here of a state's parameters, in its order; None without names."""
    known = _names_of(groups)
    if names is None:
        return known
    if isinstance(names, str) or not (isinstance(names, Sequence) or _renames(names)):
        raise TypeError(
            f"names: found {names!r}, wanted a list of the names of the state's parameters "
            "in order, or a dict or function that maps saved names to names here"
        )
    if isinstance(names, Sequence):
        count = sum(len(group["params"]) for group in groups)
        if len(names) != count:
            raise ValueError(f"names: found {len(names)}, wanted {count}, one per parameter")
        return list(map(str, names))
    if known is None:
        raise ValueError(
            "names: the state has no names; pass a list of them, in the order of the "
            "optimizer that was saved: [name for name, _ in model.named_parameters()]"
        )
    return [names.get(n, n) if isinstance(names, Mapping) else str(names(n)) for n in known]


def _renames(names: Any) -> bool:
    return isinstance(names, Mapping) or callable(names)


# ---- by place


def _by_place(
    optimizer: Grouped,
    state_dict: Mapping[str, Any],
    hyperparameters: bool,
    unnamed: bool,
    unnamed_here: bool,
) -> tuple[dict[str, Any], LoadReport]:
    """Match by the order in which torch saves; the groups must be equal."""
    groups, saved = optimizer.param_groups, state_dict["param_groups"]
    sizes, wanted = ([len(group["params"]) for group in row] for row in (saved, groups))
    if sizes != wanted:
        raise ValueError(_unequal(state_dict, groups, sizes, wanted, unnamed, unnamed_here))
    report = LoadReport("torch")
    for j, (old, new) in enumerate(zip(groups, saved, strict=True)):
        known = old.get("param_names") or new.get("param_names") or range(len(old["params"]))
        report.restored += map(str, known)
        report.changed += _changed(j, old, new) if hyperparameters else []
    if unnamed != unnamed_here:
        side, other = ("state", "optimizer") if unnamed else ("optimizer", "state")
        report.notes.append(f"{BY_PLACE}: the {other} has parameter names, the {side} has none")
    if hyperparameters:
        return dict(state_dict), report
    kept = [{**g, "params": s["params"]} for g, s in zip(groups, saved, strict=True)]
    return {**state_dict, "param_groups": kept}, report


def _unequal(
    state_dict: Mapping[str, Any],
    groups: Sequence[Mapping[str, Any]],
    found: Sequence[int],
    wanted: Sequence[int],
    unnamed: bool,
    unnamed_here: bool,
) -> str:
    """Return a message that groups differ which could be matched by order only."""
    torch_says = (
        "loaded state dict has a different number of parameter groups"
        if len(found) != len(wanted)
        else "loaded state dict contains a parameter group that doesn't match the size of "
        "optimizer's group"
    )
    numbers = [i for group in state_dict["param_groups"] for i in group["params"]]
    there = [
        f"{name} {_shape(state_dict['state'].get(i))}"
        for i, name in zip(
            numbers, _names_of(state_dict["param_groups"]) or map(str, numbers), strict=True
        )
    ]
    tensors = [p for group in groups for p in group["params"]]
    names = _names_of(groups) or [str(i) for i in range(len(tensors))]
    here = [f"{name} {list(p.shape)}" for name, p in zip(names, tensors, strict=True)]
    lacking = [side for side, none in (("state", unnamed), ("optimizer", unnamed_here)) if none]
    advice = (
        "make the optimizer from model.named_parameters()"
        if not unnamed
        else "pass names=[...], its parameter names in order"
        if not unnamed_here
        else "save and load with optimizers made from model.named_parameters(), or pass these "
        "here and names=[...], the state's parameter names in order"
    )
    return (
        f"{torch_says}: found groups of {', '.join(map(str, found))} parameters "
        f"({listed(there)}), wanted {', '.join(map(str, wanted))} ({listed(here)}). The "
        f"{' and the '.join(lacking)} had no names for matching; {advice}"
    )


def _shape(entry: Any) -> str:
    tensors = [x for x in (entry or {}).values() if isinstance(x, torch.Tensor) and x.ndim]
    return str(list(tensors[0].shape)) if tensors else ""


# ---- by name


class _ByName:
    """A state dict and an optimizer whose parameters all have names.

    Parameters
    ----------
    optimizer : Grouped
        The optimizer.
    state_dict : mapping
        What was saved.
    there, here : list of str
        The names on either side, in the order of the parameter groups.
    """

    def __init__(
        self,
        optimizer: Grouped,
        state_dict: Mapping[str, Any],
        there: Sequence[str],
        here: Sequence[str],
    ) -> None:
        self.spelling, self.defaults = optimizer.spelling, optimizer.defaults
        self.groups, self.saved = optimizer.param_groups, state_dict["param_groups"]
        self.state_dict, self.here = state_dict, here
        self.report = LoadReport("torch")
        keys = [(k, i) for k, group in enumerate(self.saved) for i in group["params"]]
        pairs, self.report.missing, self.report.unexpected = by_name(there, here, "the state")
        self.found = {name: keys[k] for name, k in pairs.items()}
        self.report.restored += self.found

    def fitted(self, strict: bool, hyperparameters: bool) -> tuple[dict[str, Any], LoadReport]:
        """Return the state dict in the optimizer's order, and the report."""
        state = self.state_dict["state"]
        numbers = {i for group in self.saved for i in group["params"]}
        # Entries that hooks have added to the state are kept.
        new: dict[Any, Any] = {k: x for k, x in state.items() if k not in numbers}
        made, first = [], 0
        for j, group in enumerate(self.groups):
            places = range(first, first := first + len(group["params"]))
            names = [self.here[i] for i in places]
            settings = self._settings(j, names, strict, hyperparameters)
            mine = {**settings, "params": list(places), "param_names": names}
            entries = {
                i: state.get(self.found[n][1]) for i, n in zip(places, names) if n in self.found
            }
            new |= self._fitting(entries, mine, group["params"], first - len(names), strict)
            made.append(mine)
        if strict and self.report.faults:
            raise ValueError(
                f"{self.spelling.name}: the state does not fit these parameters. "
                f"{self.report.faults}. strict=False loads what fits and returns a report"
                f"{self._prefixed()}"
            )
        return {**self.state_dict, "state": new, "param_groups": made}, self.report

    def _settings(
        self, j: int, names: Sequence[str], strict: bool, hyperparameters: bool
    ) -> dict[str, Any]:
        """Return the settings with which the parameters of one group were saved."""
        own = {k: v for k, v in self.groups[j].items() if k not in _OWN}
        sources = dict.fromkeys(self.found[name][0] for name in names if name in self.found)
        if not sources or not hyperparameters:
            return own | {CLASS: self.spelling.name}
        rows = [self.saved[k] for k in sources]
        taken = {k: v for k, v in rows[0].items() if k not in ("params", "param_names")}
        differing = [k for k in {**own, **taken} if not all(_same(row, rows[0], k) for row in rows)]
        if differing:
            said = (
                f"group {j} has parameters of the saved groups {', '.join(map(str, sources))}, "
                f"which differ in {', '.join(differing)}"
            )
            if strict:
                raise ValueError(
                    f"{self.spelling.name}: {said}; put them into separate groups, or pass "
                    "hyperparameters=False, which keeps the present settings"
                )
            self.report.notes.append(f"{said}; these were not loaded")
            for key in differing:
                taken.pop(key, None)
                taken |= {key: own[key]} if key in own else {}
        self.report.changed += _changed(j, self.groups[j], taken)
        return taken

    def _fitting(
        self,
        entries: Mapping[int, Any],
        settings: Mapping[str, Any],
        params: Sequence[Tensor],
        first: int,
        strict: bool,
    ) -> dict[int, Any]:
        """Return the entries that fit; the report lists the others."""
        known = {i: entry for i, entry in entries.items() if entry}
        if strict:  # errors are raised when the state is adopted
            return known
        group = {**self.defaults, **settings, "params": list(params)}
        own = GroupSettings(self.spelling, group)
        for i in list(known):
            p = params[i - first]
            try:
                entries_fitted(own, [p], [local(p)], {p: known[i]})
            except ValueError as error:
                del known[i]
                self.report.restored.remove(self.here[i])
                self.report.misshapen.append(f"{self.here[i]} ({error})")
        return known

    def _prefixed(self) -> str:
        """Return advice if all names differ by the same prefix."""
        if self.found or not self.report.missing or not self.report.unexpected:
            return ""
        a, b = self.report.unexpected[0], self.report.missing[0]
        for longer, shorter, code in ((a, b, "n.removeprefix({!r})"), (b, a, "{!r} + n")):
            prefix = longer.removesuffix(shorter)
            if longer != shorter and prefix != longer:
                return f"; or names=lambda n: {code.format(prefix)}"
        return ""


def _changed(j: int, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the settings of a group that have changed."""
    return [
        f"group {j}: {k}: {v!r} from the state, was {old[k]!r}"
        for k, v in new.items()
        if k not in _OWN and k in old and not _same(old, new, k)
    ]


def _same(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> bool:
    if key in _OWN:
        return True
    if (key in one) != (key in other):
        return False
    a, b = one.get(key), other.get(key)
    a, b = (list(x) if isinstance(x, tuple | list) else x for x in (a, b))
    return a is b or bool(a == b)
