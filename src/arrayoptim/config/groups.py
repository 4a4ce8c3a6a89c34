"""Parameter groups: settings for parameters selected by path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from ..arrays.trees import listed, plain
from .hyper import Hyper
from .per_model import Each
from .registry import ALIASES, describe, described, made, nearest

STARTING = frozenset({"initial_accumulator_value", "d0"})
"""Hyperparameters on which the initial state depends, so that they cannot change later."""

WHOLE = STARTING | {
    "clipnorm",
    "ema_momentum",
    "seed",
    "skip_loss_spikes",
    "skip_spikes",
    "threads",
}
"""Hyperparameters of the whole step or the initial state, with one value for all parameters."""

DECAY = ("weight_decay", "peak_lr", "corrected_decay", "cautious_decay", "l2")

OWN = frozenset({*DECAY, "constraint", "preset", "name", "models"})
"""Options of every optimizer that a group's optimizer may set, as well as its own class's."""

ALONE = STARTING | {"seed", "threads"}
"""Hyperparameters that all models of a population share."""

Pattern = str | Callable[[str], bool]


@dataclass(frozen=True)
class Group:
    """Parameters that match a pattern, with their settings; see `group`.

    Attributes
    ----------
    patterns : tuple of str or callable
        Patterns of paths.
    settings : dict
        Hyperparameters by name.
    freeze : bool
        Whether the parameters are not stepped.
    optimizer : Optimizer or None
        The optimizer whose rule and hyperparameters replace those of the outer one.
    allow_unmatched : bool
        Whether a pattern may match no parameter.
    """

    patterns: tuple[Pattern, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    freeze: bool = False
    optimizer: Any = None
    allow_unmatched: bool = False

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `group` by name."""
        config: dict[str, Any] = {"patterns": list(self.patterns)}
        config |= {name: describe(value) for name, value in self.settings.items()}
        if self.freeze:
            config["freeze"] = True
        if self.allow_unmatched:
            config["allow_unmatched"] = True
        if self.optimizer is not None:
            config["optimizer"] = described(self.optimizer)
        return config

    def __repr__(self) -> str:
        """Return the call that makes this object."""
        config = self.get_config() | dict(self.settings)
        config |= {"optimizer": self.optimizer} if self.optimizer else {}
        patterns = map(repr, config.pop("patterns"))
        words = (f"{name}={value!r}" for name, value in config.items())
        return f"group({', '.join([*patterns, *words])})"


def group(
    *patterns: Pattern,
    freeze: bool = False,
    optimizer: Any = None,
    allow_unmatched: bool = False,
    **settings: Any,
) -> Group:
    """Return a parameter group with its own settings, for the argument `groups` of an optimizer.

    Parameters
    ----------
    *patterns : str or callable
        Glob patterns of paths, such as ``"*/bias"`` and ``"head/*"``; or predicates of a path. A
        parameter belongs to the first group that matches.
    freeze : bool
        Whether the parameters are not stepped. Their gradients do not count in the global norm.
    optimizer : Optimizer or str, optional
        An optimizer whose rule and hyperparameters replace those of the outer one. Options of
        the step as a whole, such as `clipnorm`, are still those of the outer one.
    allow_unmatched : bool
        Whether a pattern may match no parameter, or only parameters of earlier groups; an error
        otherwise.
    **settings
        Hyperparameters that are numbers or schedules: ``lr``, ``weight_decay``, ``beta_1``...; and
        ``constraint``, ``corrected_decay`` and ``cautious_decay``.

    Returns
    -------
    Group
        The group. Its settings are checked by the optimizer that it is passed to.

    Raises
    ------
    TypeError
        If there is no pattern, or one is neither a str nor callable; or if `freeze` or
        `allow_unmatched` is neither True nor False.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> params = {"kernel": np.ones(2), "bias": np.ones(2)}
    >>> opt = ao.SGD(lr=0.5, groups=[ao.group("bias", lr=0.1)])
    >>> opt.apply({"kernel": np.ones(2), "bias": np.ones(2)}, params)
    {'kernel': array([0.5, 0.5]), 'bias': array([0.9, 0.9])}
    """
    if not patterns:
        raise TypeError("group: found no pattern, wanted at least one pattern of paths")
    for pattern in patterns:
        if not isinstance(pattern, str) and not callable(pattern):
            raise TypeError(f"group: found the pattern {pattern!r}, wanted a str or a function")
    for name, value in {"freeze": freeze, "allow_unmatched": allow_unmatched}.items():
        if not isinstance(value, bool):
            raise TypeError(f"group: {name} must be True or False, got {value!r}")
    if optimizer is not None and (settings or freeze):
        raise TypeError(
            "group: with optimizer=, settings belong to that optimizer; found also "
            + ", ".join([*settings, *["freeze"] * freeze])
        )
    named = {ALIASES.get(name, name): value for name, value in settings.items()}
    return Group(patterns, named, freeze, optimizer, allow_unmatched)


def matches(path: str, pattern: Pattern) -> bool:
    """Whether a path matches; a slash is prepended, so ``*/bias`` matches a top-level bias too."""
    if callable(pattern):
        return bool(pattern(path))
    # Patterns may leave slashes in keys unescaped.
    ways = {path, plain(path)}
    return any(fnmatchcase(way, pattern) or fnmatchcase(f"/{way}", pattern) for way in ways)


def require_matches(patterns: Sequence[Pattern], paths: Sequence[str], what: str) -> None:
    """Refuse a pattern that matches no path.

    Raises
    ------
    ValueError
        If there is such a pattern.
    """
    for pattern in patterns:
        if not any(matches(path, pattern) for path in paths):
            raise ValueError(_unmatched(pattern, paths, what))


def members_of(groups: Sequence[Group], paths: Sequence[str]) -> list[int]:
    """Return for each path the first group that matches it, counted from 1; 0 for none.

    Raises
    ------
    ValueError
        If a pattern matches no path, or only paths in earlier groups.
    """
    found, held = [0] * len(paths), []
    for k, each in enumerate(groups, 1):
        for pattern in each.patterns:
            places = [i for i, path in enumerate(paths) if matches(path, pattern)]
            held.append((k, each, pattern, places))
            for i in places:
                found[i] = found[i] or k
    for k, each, pattern, places in held:
        if each.allow_unmatched or any(found[i] == k for i in places):
            continue
        if not places:
            raise ValueError(_unmatched(pattern, paths, "groups"))
        raise ValueError(
            f"groups: the pattern {pattern!r} matches only parameters that are in the group "
            f"{groups[found[places[0]] - 1]!r} already, as the first match counts; put "
            "the narrower group first, or give this one allow_unmatched=True"
        )
    return found


def _unmatched(pattern: Pattern, paths: Sequence[str], what: str) -> str:
    shown = [plain(path) or "the bare array" for path in paths]
    return f"{what}: the pattern {pattern!r} matches none of {listed(shown)}"


def fitting(values: dict[str, Any], owner: str) -> dict[str, Any]:
    """Return hyperparameters, each checked to have one value or one per model.

    Raises
    ------
    TypeError
        If one has several values, but there is one model or all models must share it.
    ValueError
        If their number is not that of the models, or a group has another number of models.
    """
    models = values["models"]
    rows = {name: value for name, value in values.items() if isinstance(value, Each)}
    for k, each in enumerate(values.get("groups", ()), 1):
        inside = each.settings if each.optimizer is None else each.optimizer._hyper
        rows |= {f"groups[{k - 1}].{n}": v for n, v in inside.items() if isinstance(v, Each)}
        other = inside.get("models")
        if other not in (None, models):
            raise ValueError(
                f"{owner}.groups: found an optimizer of {other} models, wanted one of {models}"
            )
    for name, value in rows.items():
        if name.rpartition(".")[2] in ALONE:
            raise TypeError(f"{owner}.{name}: found {value!r}, wanted one number for all models")
        if models is None:
            raise TypeError(
                f"{owner}.{name}: found {value!r}, wanted one number; with models={len(value)} "
                "each model has its own, see the page on many models"
            )
        if len(value) != models:
            raise ValueError(
                f"{owner}.{name}: found {len(value)} values, wanted {models}, one per model, as "
                f"models={models}"
            )
    return values


class Groups(Hyper):
    """The hyperparameter that holds groups."""

    @property
    def wanted(self) -> str:
        """Description of the values allowed."""
        return "a list of arrayoptim.group(...)"

    def checked(self, value: Any, owner: type[Any]) -> tuple[Group, ...]:
        """Return checked groups: the class must have their settings, each in its interval."""
        rows = [value] if isinstance(value, Group | Mapping) else value
        if not isinstance(rows, list | tuple):
            raise TypeError(f"{owner.__name__}.groups must be {self.wanted}, got {value!r}")
        return tuple(_checked(row, owner) for row in rows)

    def to_config(self, value: tuple[Group, ...]) -> list[dict[str, Any]]:
        """Return each group as a dict."""
        return [each.get_config() for each in value]


def _checked(found: Any, owner: type[Any]) -> Group:
    if isinstance(found, Mapping):
        if "params" in found:
            raise TypeError(
                f"{owner.__name__}.groups: found a dict with 'params'; use "
                "arrayoptim.group(pattern, ...) with patterns of the parameters' paths"
            )
        words = dict(found)
        found = group(*words.pop("patterns", ()), **words)
    if not isinstance(found, Group):
        raise TypeError(f"{owner.__name__}.groups: found {found!r}, wanted arrayoptim.group(...)")
    declared = owner.hyperparameters
    able = [
        name
        for name, hyper in declared.items()
        if (hyper.numeric or hyper.per_group) and name not in WHOLE
    ]
    values = {}
    for name, value in found.settings.items():
        if name not in able:
            raise TypeError(
                f"{owner.__name__}.groups: a group cannot set {name!r}{nearest(name, able)}; it "
                f"can set {', '.join(able)}"
            )
        values[name] = declared[name].checked(value, owner)
    return replace(found, settings=values, optimizer=_optimizer(found.optimizer, owner))


def _optimizer(found: Any, owner: type[Any]) -> Any:
    found = made(found)
    if found is None:
        return None
    if not hasattr(found, "rule") or not hasattr(found, "hyperparameters"):
        raise TypeError(f"{owner.__name__}.groups: found {found!r}, wanted an optimizer")
    inherited = [name for name, hyper in found.hyperparameters.items() if hyper.owner == "Options"]
    changed = set(found.get_config()) & set(inherited) - OWN
    if changed:
        raise ValueError(
            f"{owner.__name__}.groups: {found!r} sets {', '.join(sorted(changed))}, which only the "
            "outer optimizer can set; a group's has its own rule, hyperparameters and decay"
        )
    return found
