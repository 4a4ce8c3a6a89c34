"""How optimizers of torch and those of this library say the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from ...optimizer import Optimizer

Settings = dict[str, Any]


@dataclass(frozen=True)
class Native:
    """How an optimizer of torch and one of this library say the same.

    Attributes
    ----------
    ours, theirs : str
        The names of the classes.
    keys : dict of str to str or tuple of str
        Keys of a parameter group: torch's, ours.
    slots : dict of str to str
        Slots and scalar state: torch's, ours.
    scaled : dict of str to (float, int)
        Where a slot of ours is torch's times the first number, times that power of the learning
        rate.
    exact : dict of str to str
        What is different in `slots` with ``preset="torch"``.
    differs : str
        What the formulas have different without it, in a warning; empty where nothing is.
    idle : str
        The key of a group, ours, at whose value 0 there is no such difference.
    """

    ours: str
    theirs: str
    keys: dict[str, Any]
    slots: dict[str, str]
    scaled: dict[str, tuple[float, int]] = field(default_factory=dict)
    exact: dict[str, str] = field(default_factory=dict)
    differs: str = ""
    idle: str = ""

    @property
    def decoupled(self) -> bool:
        """Whether torch's ``weight_decay`` is decoupled whatever else is set."""
        return self.theirs == "AdamW"

    def named(self, preset: str | None) -> dict[str, str]:
        """Give slots and scalar state: torch's, ours."""
        return {**self.slots, **self.exact} if preset == "torch" else self.slots

    def factor(self, slot: str, lr: float) -> float:
        """Give what torch's values are multiplied by.

        Raises
        ------
        ValueError
            If the learning rate is 0, so that one does not follow from the other.
        """
        if slot not in self.scaled:
            return 1.0
        if lr == 0:
            raise ValueError(
                f"{slot} here depends on the learning rate and in torch it does not; at lr=0 one "
                "does not follow from the other. Set the lr with which the last step was taken"
            )
        times, power = self.scaled[slot]
        return times * float(lr) ** power

    def settings(self, group: Mapping[str, Any], names: bool = False) -> Settings:
        """Give the settings of a group of torch by our keys, or else by our names."""
        found: Settings = {}
        for theirs, ours in self.keys.items():
            row = (ours, group[theirs]) if isinstance(ours, str) else (ours, tuple(group[theirs]))
            found |= dict(zip(*row, strict=True)) if isinstance(ours, tuple) else dict([row])
        if names:
            if "betas" in found:
                found["beta_1"], found["beta_2"] = found.pop("betas")
            if "eps" in found:
                found["epsilon"] = found.pop("eps")
        return found

    def keyed(self, group: Mapping[str, Any]) -> Settings:
        """Give the settings of one of our groups by torch's keys."""
        return {
            theirs: group[ours] if isinstance(ours, str) else tuple(group[k] for k in ours)
            for theirs, ours in self.keys.items()
        }

    def said(self, group: Mapping[str, Any]) -> str:
        """Give the warning of what is different, for the settings of one of our groups."""
        if not self.differs or group["preset"] == "torch" or (self.idle and not group[self.idle]):
            return ""
        return f'{self.ours}: {self.differs}; preset="torch" goes on exactly'


def derived(pair: Native, core: Optimizer, it: int, scalars: Mapping[str, Any]) -> Settings:
    """Give the numbers of the next step that torch keeps in its state, and we compute."""
    if pair.theirs != "ASGD":
        return {}
    h = SimpleNamespace(**{name: getattr(core, name) for name in core.hyperparameters})
    found = core.coefficients(h, it, scalars, np)
    return {name: float(found[name]) for name in ("eta", "mu")}


_MOMENTS = {"exp_avg": "momentum", "exp_avg_sq": "velocity", "max_exp_avg_sq": "velocity_hat"}
_ADAM: dict[str, Any] = {
    "keys": {"betas": "betas", "eps": "eps", "amsgrad": "amsgrad"},
    "slots": _MOMENTS,
    "differs": "epsilon is added before the bias correction here and after it in torch; with eps=0 "
    "they agree",
    "idle": "eps",
}
_BUFFER: dict[str, Any] = {
    "exact": {"momentum_buffer": "momentum_buffer"},
    "differs": "a new lr takes hold of the steps to come here, and of the momentum that there is "
    "already in torch; while lr stays they agree",
    "idle": "momentum",
}

TABLE = (
    Native("SGD", "SGD", {"momentum": "momentum", "nesterov": "nesterov"},
           {"momentum_buffer": "momentum"}, {"momentum": (-1.0, 1)}, **_BUFFER),
    Native("RMSprop", "RMSprop",
           {"alpha": "rho", "eps": "eps", "momentum": "momentum", "centered": "centered"},
           {"square_avg": "velocity", "momentum_buffer": "momentum",
            "grad_avg": "average_gradient"}, {"momentum": (1.0, 1)}, **_BUFFER),
    Native("Adagrad", "Adagrad", {"lr_decay": "decay", "eps": "eps"}, {"sum": "accumulator"}),
    Native("Adadelta", "Adadelta", {"rho": "rho", "eps": "eps"},
           {"square_avg": "accumulated_grad", "acc_delta": "accumulated_delta_var"}),
    Native("Adam", "AdamW", **_ADAM),
    Native("Adam", "Adam", **_ADAM),
    Native("Adamax", "Adamax", {"betas": "betas", "eps": "eps"},
           {"exp_avg": "momentum", "exp_inf": "norm"}, idle="eps",
           differs="epsilon is added to the norm here and to the gradient's magnitude in torch; "
           "with eps=0 they agree"),
    Native("Nadam", "NAdam", {"betas": "betas", "eps": "eps", "momentum_decay": "schedule_decay"},
           {"exp_avg": "momentum", "exp_avg_sq": "velocity", "mu_product": "m_schedule"}),
    Native("RAdam", "RAdam", {"betas": "betas", "eps": "eps"},
           {"exp_avg": "momentum", "exp_avg_sq": "velocity"}, idle="eps",
           differs="epsilon is added after the bias correction here and before it in torch; with "
           "eps=0 they agree"),
    Native("ASGD", "ASGD", {"lambd": "lambd", "alpha": "alpha", "t0": "t0"}, {"ax": "mean"},
           exact={"eta": "next_eta"},
           differs="a new lr takes hold at once here and a step later in torch; while lr stays "
           "they agree"),
    Native("Rprop", "Rprop",
           {"etas": ("eta_minus", "eta_plus"), "step_sizes": ("step_min", "step_max")},
           {"prev": "previous_grad", "step_size": "step_size"}, {"step_size": (1.0, -1)},
           exact={"step_size": "step_length"},
           differs="a new lr changes the sizes that there are already here and not in torch; while "
           "lr stays they agree"),
)  # fmt: skip

SCALARS = ("m_schedule", "next_eta")
"""State of ours that is one number."""
