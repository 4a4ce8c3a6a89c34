"""The hyperparameters of one parameter group, which schedulers write into the group."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch

from ...engines import on_gpu, refuse_capturing
from ...step.session import session_of
from .shards import Tensor
from .spelling import Spelling

TOGETHER = ("clipnorm", "nonfinite", "skip_spikes", "measure", "skip_loss_spikes")
"""Step-level settings; all but the last take the norm over all groups."""

_together = operator.attrgetter(*TOGETHER)

_LISTS = ("params", "param_names")
_DECIDING = frozenset({"momentum", "agc", "skip_spikes", "skip_loss_spikes"})
"""Hyperparameters that decide what the state holds, or whether shards are gathered."""

_DECAYS = frozenset({"weight_decay", "l2"})
"""Keys whose values the host needs to choose the kind of decay."""

_READ = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
"""The dtypes of hyperparameters that kernels read."""


class GroupSettings:
    """The optimizer configured with the hyperparameters of a parameter group.

    Parameters
    ----------
    spelling : Spelling
        Names and forms of the hyperparameters in the group.
    group : dict
        The parameter group.

    Attributes
    ----------
    core : Optimizer
        The optimizer.
    name : str
        The name of its class in `arrayoptim.torch`.
    measuring : tuple
        The values of `TOGETHER`.
    words : dict of str to str
        Names in torch's state, keyed by ours, where they differ.
    capturable : bool
        Whether steps of the group may be captured in a CUDA graph.
    live : dict of str to Tensor
        Hyperparameters that then only kernels read, keyed by our names.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter has the wrong type or a value that neither class accepts.
    """

    def __init__(self, spelling: Spelling, group: dict[str, Any]) -> None:
        self.spelling, self.group, self.name = spelling, group, spelling.name
        self._spelled: set[str] = set()
        self._seen: list[Any] = []
        self._require_spelled()
        self._values = spelling.plain(group)
        self.capturable, self._anew = bool(group["capturable"]), False
        self.live: dict[str, Tensor] = {}
        self._served: Tensor | None = None
        self.core = spelling.made(self._values, group)
        self.measuring = _together(self.core)
        self.words = spelling.state_names(self.core.preset)

    def word(self, name: str) -> str:
        """Return the name of a slot or scalar in torch's state."""
        return self.words.get(name, name)

    def paths(self) -> dict[int, str]:
        """Return each parameter's name, or its index if it has none, keyed by its `id`."""
        params = self.group["params"]
        names: Iterable[Any] = self.group.get("param_names") or range(len(params))
        return {id(p): str(name) for p, name in zip(params, names, strict=True)}

    def path(self, p: Any) -> str:
        """Return the name of one parameter; see `paths`."""
        return self.paths()[id(p)]

    def together(self) -> bool:
        """Whether the rule computes norms over all parameters of the group together."""
        members = session_of(self.core).settings.members
        return any(member.formula.rule.totals for member in members)

    def follow(self) -> bool:
        """Read new values from the group; return whether the entries of the state may differ.

        Raises
        ------
        TypeError, ValueError
            If a hyperparameter is invalid.
        """
        group, seen = self.group, self._seen
        found = list(group.values())
        if len(found) == len(seen):
            if all(map(operator.is_, found, seen)):
                return False
            self._anew = False
            changed = [k for k, a, b in zip(group, found, seen, strict=True) if a is not b]
            if all(map(self._took, changed)):
                self._seen = found
                return self._anew
        self._require_spelled()
        before, self.capturable = self.capturable, bool(group["capturable"])
        self._anew = self.capturable is not before
        if self.capturable and self._served is not None:
            group = self._without_live(self._served)
        values = self.spelling.plain(group)
        # A mutable object may have another value next time.
        written = [k for k, v in group.items() if k not in _LISTS and _may_be_written(v)]
        self._seen = [] if written else found
        self._adopt(values)
        return self._anew

    def leave_live(self, p: Tensor) -> None:
        """Let kernels that step a parameter read the hyperparameters that are GPU tensors.

        Raises
        ------
        ValueError
            If they cannot read one of them.
        """
        self.live, self._served = _live_numbers(self.spelling, self.group, p), p
        self._seen = []

    def read_all(self) -> None:
        """Read all hyperparameters on the host again."""
        left, self.live, self._served = self.live, {}, None
        if left:
            self._adopt(self.spelling.plain(self.group))

    def _without_live(self, p: Tensor) -> dict[str, Any]:
        """Return the group with the last known values of the numbers that kernels read."""
        try:
            self.live = _live_numbers(self.spelling, self.group, p)
        except ValueError:
            refuse_capturing([p])
            self.live, self._served, self._anew = {}, None, True
        return _with_known(self.spelling, self.group, self.live, self._values)

    def _adopt(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if value != self._values[name]:
                self._set(name, value)

    def _took(self, key: str) -> bool:
        """Adopt one value if it is a plain number for a single hyperparameter."""
        names, value = self.spelling.keys.get(key, ()), self.group[key]
        if len(names) != 1 or type(value) is not float or key in _DECIDING:
            return False
        if names[0] in self.live:  # kernels would go on reading the tensor
            return False
        self._set(names[0], value)
        return True

    def _set(self, name: str, value: Any) -> None:
        try:
            setattr(self.core, name, value)
        except (TypeError, ValueError) as ours:
            self.core._unbounded = self.spelling.unbounded(self.group, ours)
            setattr(self.core, name, value)
        # Which hyperparameters are set decides whether the device can compute the coefficients.
        other = self.capturable and None in (value, self._values[name])
        self._values[name] = value
        if name in TOGETHER:
            self.measuring = _together(self.core)
        if other or name in _DECIDING or not self.core.hyperparameters[name].numeric:
            self._anew, self.words = True, self.spelling.state_names(self.core.preset)

    def _require_spelled(self) -> None:
        if self.group.keys() != self._spelled:
            self.spelling.require_spelled(self.group)
            self._spelled = set(self.group)


def _may_be_written(value: Any) -> bool:
    row = value if isinstance(value, tuple) else (value,)
    return any(isinstance(x, torch.Tensor | list) for x in row)


def _live_numbers(spelling: Spelling, group: Mapping[str, Any], p: Tensor) -> dict[str, Tensor]:
    """Return the hyperparameters of a group that are GPU tensors, keyed by our names.

    Kernels that step the parameter read them when a step runs; the host does not.

    Raises
    ------
    ValueError
        If kernels cannot read one of them.
    """
    found: dict[str, Tensor] = {}
    for key, value in group.items():
        names = spelling.keys.get(key, ())
        if not names and key not in _DECAYS:  # a scheduler's own
            continue
        for place, x in enumerate(_row(value, names)):
            if not (isinstance(x, torch.Tensor) and on_gpu(x)):
                continue
            if place >= len(names):
                raise ValueError(f"{key} is a tensor on {x.device}, and the host goes by its value")
            if x.dtype not in _READ or x.device != p.device or x.numel() != 1:
                raise ValueError(
                    f"{key} is a tensor of {x.dtype} with {x.numel()} elements on {x.device}; "
                    f"kernels read one number of floating point on {p.device}"
                )
            found[names[place]] = x
    return found


def _with_known(
    spelling: Spelling,
    group: Mapping[str, Any],
    live: Collection[str],
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a group in which known numbers replace those that only the device knows."""
    found = dict(group)
    for key, names in spelling.keys.items():
        if any(name in live for name in names):
            pairs = zip(names, _row(group[key], names), strict=False)
            row = tuple(known[name] if name in live else x for name, x in pairs)
            found[key] = row if len(names) > 1 else row[0]
    return found


def _row(value: Any, names: Sequence[str]) -> Sequence[Any]:
    """Return the value of a key for each of its names."""
    return value if len(names) > 1 and isinstance(value, tuple | list) else (value,)
