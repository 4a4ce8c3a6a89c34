"""The hyperparameters of an optimizer under the keys that torch's schedulers look for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

import torch

from ...config.registry import ALIASES, OPTIMIZERS, describe
from ...optimizer import Optimizer
from ...step.options import Options
from ...step.session import session_of
from .misspelt import meant
from .pairs import TABLE

IGNORED = ("foreach", "fused")
"""Torch's words for how a step is carried out, which engines decide here."""

REFUSED = ("capturable", "differentiable")
"""Torch's words for what a step here cannot do."""

CLASS = "class_name"
"""The key of a group that says for which class its settings, and the state of its members, are."""

Settings = dict[str, Any]


class Spelling:
    """Under which keys of a parameter group an optimizer's hyperparameters stand.

    Each has one key. Where torch has a name of its own that is the key: ``betas`` for `beta_1`,
    `beta_2`, ... and ``eps`` for `epsilon`.

    Parameters
    ----------
    core : type
        The optimizer's class.

    Attributes
    ----------
    keys : dict of str to tuple of str
        Each key with the hyperparameters that it stands for.
    positional : tuple of str
        The keys that may be given by position, in the order of torch's class of that name, up to
        the first argument that it alone has or means otherwise.
    """

    def __init__(self, core: type[Optimizer]) -> None:
        self.core = core
        names = [name for name in core.hyperparameters if name != "groups"]
        betas = tuple(name for name in names if re.fullmatch(r"beta_\d+", name))
        self.keys: dict[str, tuple[str, ...]] = {}
        for name in names:
            if len(betas) > 1 and name in betas:
                self.keys["betas"] = betas
            else:
                self.keys["eps" if name == "epsilon" else name] = (name,)
        self._home = {
            name: (key, place)
            for key, row in self.keys.items()
            for place, name in enumerate(row)
            if name != key
        }
        self.native = next(
            (row for row in TABLE if row.theirs.lower() == core.__name__.lower()), None
        )
        self.positional = ("lr", *takewhile(self.keys.__contains__, self._natively()))

    def _natively(self) -> list[str]:
        """Give the keys of torch's arguments after ``lr``; empty where it means another thing."""
        if self.native is None:
            return []
        names = list(inspect.signature(getattr(torch.optim, self.native.theirs)).parameters)[2:]
        words = {**self.native.keys, "weight_decay": "weight_decay" * self.native.decoupled}
        return [words.get(name, "") for name in names]

    def by_position(self, values: Sequence[Any]) -> Settings:
        """Give the settings that came by position after ``lr``.

        Raises
        ------
        TypeError
            If they are too many.
        """
        keys = self.positional[1:]
        if len(values) > len(keys):
            name = self.core.__name__
            common = {*Options.hyperparameters} - {"weight_decay", "l2"} | {*self.positional}
            found = f"{name} takes at most {len(keys) + 2} positional arguments (params, "
            found += f"{', '.join(self.positional)}), got {len(values) + 2}; give others by keyword"
            found += f": {', '.join(key for key in self.keys if key not in common)}"
            if self.native and not self.native.decoupled:
                found += f"; torch's {self.native.theirs} calls l2 weight_decay"
            raise TypeError(found)
        return dict(zip(keys, values, strict=False))

    def key_of(self, word: str) -> str:
        """Give the key of a hyperparameter in whichever spelling; nothing where it is none."""
        name = ALIASES.get(word, word)
        key = self._home.get(name, (name, 0))[0]
        return key if key in self.keys or key == "maximize" else ""

    def misspelt(self, word: str) -> str:
        """Say which hyperparameter an unknown word must mean; nothing where it means none."""
        if self.key_of(word) or word in (*IGNORED, *REFUSED):
            return ""
        known = {*self.keys, *self._home, *ALIASES, "maximize"} - {"name"}  # users have such words
        return meant(word, known, self.native)

    def require_spelled(self, words: Iterable[str]) -> None:
        """Refuse keys of a group that must be misspelt.

        Raises
        ------
        TypeError
            If there is one.
        """
        for word in words:
            if said := self.misspelt(word):
                raise TypeError(
                    f"{self.core.__name__}: found {word!r} in a parameter group, wanted the name "
                    f"of a hyperparameter{said}"
                )

    def spelled(self, settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> Settings:
        """Give settings under the keys of a group, whichever way they were spelt.

        Parameters
        ----------
        settings : mapping
            What a caller gave; unknown names stay.
        defaults : mapping
            Under the keys of a group; they say what the betas are that were not given.

        Raises
        ------
        TypeError
            If a setting is given twice.
        ValueError
            If the step would have to be captured or differentiated, or the settings are those of
            another class.
        """
        self._require_own(settings)
        found: Settings = {}
        for word, value in settings.items():
            name = ALIASES.get(word, word)
            if name in REFUSED and value:
                raise ValueError(
                    f"{self.core.__name__}: {name}={value!r} is not available; a step is no part "
                    "of a CUDA graph and autograd does not go through it"
                )
            if name in (*IGNORED, *REFUSED, CLASS):
                continue
            key, place = self._home.get(name, (name, 0))
            if (key != word and key in settings) or (name != word and name in settings):
                raise TypeError(f"{self.core.__name__} got both {word!r} and {key!r}; give one")
            if key in self.keys and len(self.keys[key]) > 1 and key != name:
                row = list(found.get(key, defaults[key]))
                row[place] = value
                value = tuple(row)
            # What stands in a group is pickled, and loaded where only plain values are.
            found[key] = tuple(value) if isinstance(value, list) else describe(value)
        return found

    def plain(self, group: Mapping[str, Any]) -> Settings:
        """Give what the keys of a group say, as arguments of the optimizer's class.

        Raises
        ------
        TypeError
            If a value is a schedule, which a torch scheduler takes the place of, or ``maximize`` is
            no bool.
        ValueError
            If the betas are too few or too many, or a group holds another spelling too, or is that
            of another class.
        """
        self._require_own(group)
        found: Settings = {}
        for key, names in self.keys.items():
            row = group[key] if len(names) > 1 else (group[key],)
            if not isinstance(row, tuple | list) or len(row) != len(names):
                raise ValueError(
                    f"{self.core.__name__}.{key}: found {row!r}, wanted {len(names)} numbers"
                )
            found |= {name: _number(value) for name, value in zip(names, row, strict=True)}
        for name, value in found.items():
            number = self.core.hyperparameters[name].numeric
            if callable(value) or (number and isinstance(value, Mapping)):
                raise TypeError(
                    f"{self.core.__name__}.{name}: found the schedule {value!r}; give a number and "
                    "let a scheduler of torch.optim.lr_scheduler, such as LambdaLR, change it"
                )
        if not isinstance(group.get("maximize", False), bool):
            raise TypeError(
                f"{self.core.__name__}.maximize must be True or False, got {group['maximize']!r}"
            )
        for name in [*self._home, *ALIASES]:
            if name in group:
                key = ALIASES.get(name) or self._home[name][0]
                raise ValueError(
                    f"{self.core.__name__}: a parameter group holds {name!r}, which stands under "
                    f"{key!r}; write group[{key!r}]"
                )
        return found

    def require_saved(self, group: Mapping[str, Any]) -> None:
        """Refuse a group of a state dict that another class gave.

        Older ones do not tell the class; then they have all settings that only few classes have.

        Raises
        ------
        ValueError
            If another class gave it.
        """
        self._require_own(group)
        if CLASS in group:
            return
        known = {*IGNORED, *REFUSED} - {"differentiable"}  # torch's base may give us that one
        known |= {k for name in OPTIMIZERS.names() for k in Spelling(OPTIMIZERS.lookup(name)).keys}
        needless = {*Options.hyperparameters, *group}
        missing = [k for k in self.keys if k not in needless]
        unexpected = [k for k in group if k in known and k not in self.keys]
        if missing or unexpected:
            name = self.core.__name__
            raise ValueError(
                f"{name}: found a state whose settings are not those of {name}; missing: "
                f"{', '.join(missing) or 'none'}; unexpected: {', '.join(unexpected) or 'none'}; "
                "if it is of an optimizer of torch, arrayoptim.torch.from_torch converts that"
            )

    def _require_own(self, group: Mapping[str, Any]) -> None:
        name = self.core.__name__
        if group.get(CLASS, name) != name:
            raise ValueError(
                f"{name}: found settings or state of {group[CLASS]!r}, wanted those of {name!r}; "
                "an optimizer of that class takes them"
            )

    def keyed(self, values: Mapping[str, Any]) -> Settings:
        """Give hyperparameters by name under the keys of a group."""
        values = {name: describe(value) for name, value in values.items()}
        return {
            key: tuple(values[name] for name in names) if len(names) > 1 else values[names[0]]
            for key, names in self.keys.items()
        }

    def defaults(self, settings: Mapping[str, Any]) -> Settings:
        """Give checked values for every key, from what a constructor was given.

        Raises
        ------
        TypeError, ValueError
            If a setting is unknown, of another kind or outside its interval.
        """
        declared = self.core.hyperparameters
        start = self.keyed({name: hyper.default for name, hyper in declared.items()})
        given = self.spelled(settings, start)
        if "groups" in given:
            raise TypeError(
                f"{self.core.__name__}: found groups={given['groups']!r}; give torch's parameter "
                'groups, [{"params": ..., "lr": ...}, ...], in place of the parameters'
            )
        unknown = {key: value for key, value in given.items() if key not in self.keys}
        made = self.core(**self.plain({**start, **given}), **unknown)
        return self.keyed(session_of(made).settings.whole)


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
