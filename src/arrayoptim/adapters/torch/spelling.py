"""The keys of hyperparameters in torch's parameter groups."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from ...config.refused import both
from ...config.registry import ALIASES, OPTIMIZERS, describe
from ...config.torch import TABLE, Native, Settings, native_of
from ...config.validation import flag
from ...optimizer import Optimizer
from ...step.options import Options
from .differentiable import refuse_undifferentiable
from .misspelt import meant

CLASS = "class_name"
"""The key in a group that names the class to which its settings and state belong."""

FLAGS = {
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "differentiable": False,
    "fused": None,
}
"""Torch's options that do not concern the rule, with their defaults."""

DECAYS = ("weight_decay", "l2")
"""Hyperparameters of this library that have the same name and meaning in torch."""

BETAS = {"ScheduleFreeAdamW": ("momentum", "beta_2")}
"""The hyperparameters in ``betas`` that are not named beta here."""

COUPLED = frozenset({"DoG", "Ftrl", "SM3", "Shampoo", "Yogi"})
"""Classes that torch lacks, and whose papers have no decoupled decay."""


class Spelling:
    """The keys of an optimizer's hyperparameters in parameter groups.

    Each hyperparameter has one key. If torch has its own name, that is the key: ``betas`` for
    `beta_1`, `beta_2`, ..., ``eps`` for `epsilon`, and those in the table of torch's classes.
    Whether the key ``weight_decay`` is decoupled or coupled depends on
    ``decoupled_weight_decay``.

    Parameters
    ----------
    core : type
        The optimizer's class.
    row : Native, optional
        The names of torch's class, if it has one.

    Attributes
    ----------
    name : str
        The name of the class for torch.
    native : type or None
        Torch's class.
    keys : dict of str to tuple of str
        Maps each key to its hyperparameters, except those of the decays.
    positional : tuple of str
        The keys that may be passed by position.
    """

    def __init__(self, core: type[Optimizer], row: Native | None = None) -> None:
        self.core, self.row = core, row
        self.native = None if row is None else getattr(torch.optim, row.theirs)
        same = row is not None and native_of(row.theirs) is row
        self.name = row.theirs if row is not None and same else core.__name__
        self.preset = row.formula if row is not None else None
        names = [n for n in core.hyperparameters if n not in ("groups", "models", *DECAYS)]
        self.keys = self._keys(names)
        self._theirs = self._known_to_torch()
        self._home = {
            name: (key, place)
            for key, row in self.keys.items()
            for place, name in enumerate(row)
            if name != key
        }
        self.parameters = self._parameters()
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self.positional = tuple(p.name for p in self.parameters if p.kind is kind)[1:]

    def _keys(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {"lr": ("lr",)}
        if self.row is not None:
            for key, ours in self.row.keys.items():
                found[key] = ours if isinstance(ours, tuple) else (ours,)
        else:
            betas = tuple(name for name in names if re.fullmatch(r"beta_\d+", name))
            betas = BETAS.get(self.name, betas)
            found |= {"betas": betas} if len(betas) > 1 else {}
            found |= {"eps": ("epsilon",)} if "epsilon" in names else {}
        taken = {name for row in found.values() for name in row}
        return found | {name: (name,) for name in names if name not in taken}

    def _known_to_torch(self) -> frozenset[str]:
        if self.native is None or self.row is None:
            return frozenset()
        return frozenset({"lr", *DECAYS}.union(*(self.keys[key] for key in self.row.keys)))

    def made(self, values: Settings, group: Mapping[str, Any]) -> Optimizer:
        """Return an optimizer of the class, which takes the numbers that torch's class takes.

        Parameters
        ----------
        values : dict
            The settings of a group, from `plain`.
        group : mapping
            The group.

        Raises
        ------
        TypeError, ValueError
            If a hyperparameter is of another kind, or one that torch's class refuses too.
        """
        try:
            return self.core(**values)
        except (TypeError, ValueError) as ours:
            return self.core.taking(self.unbounded(group, ours), **values)

    def unbounded(self, group: Mapping[str, Any], ours: Exception) -> frozenset[str]:
        """Return the hyperparameters whose numbers torch's class takes, or raise the error.

        Parameters
        ----------
        group : mapping
            The settings of a group.
        ours : Exception
            Why this library's class refuses them.
        """
        if not self._theirs or group["preset"] != self.preset:
            raise ours
        asked = {"lr", "weight_decay", *self.keys}
        theirs = self._refused_by_torch({k: v for k, v in group.items() if k in asked})
        if theirs is not None:
            raise both(ours, theirs, "torch") from None
        return self._theirs

    # ---- the constructor

    def _parameters(self) -> list[inspect.Parameter]:
        """Return the parameters of the constructor: torch's own, then ours as keyword-only."""
        made, positional = inspect.Parameter, inspect.Parameter.POSITIONAL_OR_KEYWORD
        found = [made("params", positional)]
        start = self.start(self.preset)
        if self.native is not None:
            theirs = list(inspect.signature(self.native).parameters.values())[1:]
            found += [made(p.name, p.kind, default=start.get(p.name, p.default)) for p in theirs]
        else:
            first = [k for k in ("lr", "betas", "eps", "weight_decay") if k in start]
            found += [made(k, positional, default=start[k]) for k in first]
        known = {p.name for p in found}
        return found + [
            made(key, made.KEYWORD_ONLY, default=value)
            for key, value in start.items()
            if key not in known
        ]

    def start(self, preset: Any) -> Settings:
        """Return the default settings of a group, given a preset or None."""
        declared = self.core.hyperparameters
        values = {name: hyper.default_under(preset) for name, hyper in declared.items()}
        if self.row is not None and self.row.sparse:
            values["sparse"] = "lazy"
        found = self.keyed({**values, "preset": preset})
        if self.native is None or preset != self.preset:
            return found
        theirs = inspect.signature(self.native).parameters
        # A class whose own default is a decay, such as NadamW, keeps that default.
        own = {"weight_decay", "decoupled_weight_decay"} if found["weight_decay"] else set()
        known = {k: p.default for k, p in theirs.items() if k in found.keys() - own}
        return {**{k: found[k] for k in theirs if k in found}, **found, **known}

    def by_position(self, values: Sequence[Any]) -> Settings:
        """Return the settings passed by position after the parameters.

        Raises
        ------
        TypeError
            If there are too many.
        """
        if len(values) > len(self.positional):
            common = {*Options.hyperparameters, *self.positional, *FLAGS}
            raise TypeError(
                f"{self.name} takes at most {len(self.positional) + 1} positional arguments "
                f"(params, {', '.join(self.positional)}), got {len(values) + 1}; pass others by "
                f"keyword: {', '.join(key for key in self.keys if key not in common)}"
            )
        return dict(zip(self.positional, values, strict=False))

    def defaults(self, settings: Mapping[str, Any]) -> Settings:
        """Return checked values for every key, from the arguments of the constructor.

        Raises
        ------
        TypeError, ValueError
            If a setting is unknown, has the wrong type or lies outside its interval.
        """
        preset = settings.get("preset", self.preset)
        start = self.start(preset)
        given = self.spelled(settings, start)
        if "groups" in given:
            raise TypeError(
                f"{self.name}: found groups={given['groups']!r}; pass torch's parameter groups, "
                '[{"params": ..., "lr": ...}, ...], in place of the parameters'
            )
        for word in given:
            if word not in start:
                said = meant(word, self._words())
                raise TypeError(
                    f"{self.name} has no argument {word!r}{said}; it takes {', '.join(start)}"
                )
        self._check({**start, **given}, given if preset == self.preset else {})
        return {**start, **given}

    def _check(self, settings: Settings, given: Settings) -> None:
        """Refuse settings that this library's class or torch's refuses, with both messages."""
        theirs = self._refused_by_torch(given)
        try:
            values = self.plain(settings)
            core = self.core(**values) if theirs else self.made(values, settings)
            if settings["differentiable"]:
                refuse_undifferentiable(core, self.name)
        except (TypeError, ValueError) as ours:
            if theirs is None:
                raise
            raise both(ours, theirs, "torch") from None
        if theirs is not None:
            raise theirs

    def _refused_by_torch(self, given: Settings) -> Exception | None:
        if self.native is None:
            return None
        known = {k: v for k, v in given.items() if k in inspect.signature(self.native).parameters}
        try:
            self.native([torch.nn.Parameter(torch.empty(1, 1))], **known)
        except Exception as error:  # whatever its kind of decay
            return error
        return None

    # ---- words

    def _words(self) -> set[str]:
        return {*self.keys, *self._home, *ALIASES, *FLAGS, *DECAYS, "decoupled_weight_decay"}

    def key_of(self, word: str) -> str:
        """Return the key of a hyperparameter given by either name; empty for other names."""
        name = ALIASES.get(word, word)
        key = self._home.get(name, (name, 0))[0]
        return key if key in self._words() and key not in self._home else ""

    def misspelt(self, word: str) -> str:
        """Return a hint on what an unknown name must mean; empty if it may be the user's own."""
        if self.key_of(word):
            return ""
        return meant(word, self._words() - {"name"})  # users may have such keys in groups

    def require_spelled(self, words: Iterable[str]) -> None:
        """Refuse keys of a group that must be misspelt.

        Raises
        ------
        TypeError
            If there is such a key.
        """
        for word in words:
            if said := self.misspelt(word):
                raise TypeError(
                    f"{self.name}: found {word!r} in a parameter group, wanted the name of a "
                    f"hyperparameter{said}"
                )

    def spelled(self, settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> Settings:
        """Return settings by the keys of a group, given by either name.

        Parameters
        ----------
        settings : mapping
            Settings by either name; unknown ones are kept.
        defaults : mapping
            Defaults by the keys of a group; used for betas that are not in `settings`.

        Raises
        ------
        TypeError
            If a setting is passed twice.
        ValueError
            If the settings belong to another class.
        """
        self.require_own(settings)
        found: Settings = {}
        for word, value in settings.items():
            name = ALIASES.get(word, word)
            key, place = self._home.get(name, (name, 0))
            if (key != word and key in settings) or (name != word and name in settings):
                raise TypeError(f"{self.name} got both {word!r} and {key!r}; pass one")
            if key == CLASS:
                continue
            if key in self.keys and len(self.keys[key]) > 1 and key != name:
                row = list(found.get(key, defaults[key]))
                row[place] = value
                value = tuple(row)
            # A group must be loadable by torch.load(weights_only=True).
            listed = isinstance(value, list) and key not in ("params", "param_names")
            found[key] = tuple(value) if listed else _plain(value)
        return found

    def plain(self, group: Mapping[str, Any]) -> Settings:
        """Return the settings of a group as arguments of the optimizer's class.

        Raises
        ------
        TypeError
            If a value is a schedule (use a torch scheduler instead), or ``maximize`` is not a
            bool.
        ValueError
            If there are too few or too many betas, or a group has a hyperparameter by another
            name too, or belongs to another class.
        """
        self.require_own(group)
        found: Settings = {}
        for key, names in self.keys.items():
            value = group[key]
            if self.row is not None and key in self.row.words:
                value = self.row.words[key].get(value, value)
            row = _listed(value) if len(names) > 1 else (value,)
            if not isinstance(row, tuple | list) or len(row) != len(names):
                raise ValueError(f"{self.name}.{key}: found {row!r}, wanted {len(names)} numbers")
            found |= {name: self._taken(name, x) for name, x in zip(names, row, strict=True)}
        found |= self._decay(group)
        if self.row is not None and self.row.machine and found[self.row.machine] is None:
            found[self.row.machine] = _machine_epsilon(group.get("params"))
        if self.row is not None and found.get("scalar_dtype", "") is None:
            double = torch.get_default_dtype() is torch.float64
            found["scalar_dtype"] = "float64" if double else "float32"
        self._refuse(group, found)
        return found

    def _taken(self, name: str, value: Any) -> Any:
        """Return a value, converted to a bool where torch uses only its truth value."""
        if isinstance(self.core.hyperparameters[name].default, bool):
            return flag(_number(value))
        return _number(value)

    def _decay(self, group: Mapping[str, Any]) -> Settings:
        """Return the decay of a group, as the kind that its settings select."""
        amount, coupled = _number(group["weight_decay"]) or 0.0, _number(group["l2"]) or None
        if not isinstance(flag(group["decoupled_weight_decay"]), bool):
            raise TypeError(
                f"{self.name}.decoupled_weight_decay must be True or False, got "
                f"{group['decoupled_weight_decay']!r}"
            )
        if group["decoupled_weight_decay"]:
            unused = self.core.hyperparameters["weight_decay"].default is None
            return {"weight_decay": amount or (None if unused else 0.0), "l2": coupled}
        if amount and coupled:
            raise ValueError(
                f"{self.name}: weight_decay={amount!r} is coupled, like l2={coupled!r}; pass one, "
                "or decoupled_weight_decay=True"
            )
        none = self.core.hyperparameters["weight_decay"].default
        return {"weight_decay": none and 0.0, "l2": amount or coupled}

    def _refuse(self, group: Mapping[str, Any], found: Settings) -> None:
        for name, value in found.items():
            number = self.core.hyperparameters[name].numeric
            if callable(value) or (number and isinstance(value, Mapping)):
                raise TypeError(
                    f"{self.name}.{name}: found the schedule {value!r}; pass a number and let a "
                    "scheduler of torch.optim.lr_scheduler, such as LambdaLR, change it"
                )
        if not isinstance(flag(group.get("maximize")), bool):
            raise TypeError(
                f"{self.name}.maximize must be True or False, got {group['maximize']!r}"
            )
        for name in [*self._home, *ALIASES]:
            if name in group:
                key = ALIASES.get(name) or self._home[name][0]
                raise ValueError(
                    f"{self.name}: a parameter group has {name!r}, whose key is {key!r};  "
                    f"write group[{key!r}]"
                )

    def keyed(self, values: Mapping[str, Any]) -> Settings:
        """Return hyperparameters by the keys of a group, with torch's other options."""
        values = {name: describe(value) for name, value in values.items()}
        found: Settings = {}
        for key, names in self.keys.items():
            found[key] = tuple(values[n] for n in names) if len(names) > 1 else values[names[0]]
        if self.row is not None:
            found |= {k: v for k, v in self.row.keyed(values).items() if k in self.row.words}
        decoupled = self.row.decoupled if self.row is not None else self.name not in COUPLED
        if values["weight_decay"]:
            decay, decoupled, l2 = values["weight_decay"], True, values["l2"] or 0
        elif decoupled and values["l2"]:
            decay, l2 = 0, values["l2"]
        else:
            decay, l2 = values["l2"] or 0, 0
        decays = {"weight_decay": decay, "decoupled_weight_decay": decoupled, "l2": l2}
        return {**found, **FLAGS, **decays}

    # ---- loading

    def state_names(self, preset: Any) -> dict[str, str]:
        """Return torch's names of slots and scalar state by ours, where they differ."""
        if self.row is None or preset != self.preset:
            return {}
        return {ours: theirs for theirs, ours in self.row.slots.items()}

    def require_saved(self, group: Mapping[str, Any]) -> None:
        """Refuse a group of a state dict of another class.

        Torch's own do not name the class; they are recognised by their settings.

        Raises
        ------
        ValueError
            If it belongs to another class.
        """
        self.require_own(group)
        if CLASS in group:
            return
        own = {*self.keys, *self._home}
        common = {*Options.hyperparameters, *FLAGS, *ALIASES, "decay"}
        missing = [k for k in self._numbers() if not {k, *self.keys[k]} & {*group}]
        others = {k for row in TABLE for k in row.keys} | {
            k for name in OPTIMIZERS.names() for k in Spelling(OPTIMIZERS.lookup(name)).keys
        }
        unexpected = [k for k in group if k in others - common and k not in own]
        if missing or unexpected:
            raise ValueError(
                f"{self.name}: found a state whose settings are not those of {self.name}; missing: "
                f"{', '.join(missing) or 'none'}; unexpected: {', '.join(unexpected) or 'none'}"
            )

    def _numbers(self) -> list[str]:
        """Return the keys of numbers that are specific to this class."""
        declared = self.core.hyperparameters
        mine = self.row.keys if self.row is not None else self.keys
        rows = {key: [declared[name] for name in self.keys[key]] for key in mine}
        return [
            key
            for key, row in rows.items()
            if key not in ("lr", "decay") and all(h.numeric and not h.keyword for h in row)
        ]

    def require_own(self, group: Mapping[str, Any]) -> None:
        """Refuse settings of another class.

        Raises
        ------
        ValueError
            If they belong to another class.
        """
        found = group.get(CLASS, self.name)
        if found.lower() != self.name.lower():
            raise ValueError(
                f"{self.name}: found settings or state of {found!r}, wanted those of "
                f"{self.name!r}; load them into an optimizer of that class"
            )


def _machine_epsilon(params: Any) -> float:
    """Return the machine epsilon of the first parameter's dtype, which torch uses for a group."""
    first = params[0] if isinstance(params, list | tuple) and params else None
    kind = first.dtype if isinstance(first, torch.Tensor) else torch.get_default_dtype()
    return float(torch.finfo(kind).eps)


def _listed(value: Any) -> Any:
    """Return several numbers in a tensor as a list."""
    return value.tolist() if isinstance(value, torch.Tensor) and value.ndim == 1 else value


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor) or not hasattr(value, "item"):
        return describe(value)
    return value.item()
