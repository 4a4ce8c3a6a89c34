"""How the names of torch's optimizers correspond to those of this library: the one table.

``arrayoptim.torch`` spells its settings and its state by it, states are exchanged by it, and an
unknown word is explained by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, Any]


@dataclass(frozen=True)
class Native:
    """How the names of an optimizer of torch correspond to those of one of this library.

    Attributes
    ----------
    ours, theirs : str
        The names of the classes.
    keys : dict of str to str or tuple of str
        Hyperparameters: torch's words, ours.
    slots : dict of str to str
        Slots and scalar state: torch's, ours with ``preset="torch"``.
    plain : dict of str to str
        What is different in `slots` without the preset.
    scaled : dict of str to (float, int)
        Where a slot of ours is torch's times the first number, times that power of the learning
        rate.
    differs : str
        What the formulas have different without the preset, in a warning; empty where nothing is.
    idle : str
        The hyperparameter, ours, at whose value 0 there is no such difference.
    words : dict
        By torch's word, torch's values with ours, where these are others.
    formula : str or None
        The preset with which the formula is torch's.
    decoupled : bool
        Whether torch's ``weight_decay`` is decoupled if nothing else is said.
    derived : tuple of str
        Numbers that torch keeps in its state besides, and that are computed here.
    particular : bool
        Whether torch's class does not take all parameters.
    sparse : bool
        Whether only those entries are stepped that a sparse gradient has.
    machine : str
        The hyperparameter, ours, whose None is the machine epsilon of a group's first parameter.
    averaged : dict of str to int
        Slots, torch's, that keep an axis of length 1 which ours without the preset lack.
    """

    ours: str
    theirs: str
    keys: dict[str, Any]
    slots: dict[str, str]
    plain: dict[str, str] = field(default_factory=dict)
    scaled: dict[str, tuple[float, int]] = field(default_factory=dict)
    differs: str = ""
    idle: str = ""
    words: dict[str, dict[Any, Any]] = field(default_factory=dict)
    formula: str | None = "torch"
    decoupled: bool = False
    derived: tuple[str, ...] = ()
    particular: bool = False
    sparse: bool = False
    machine: str = ""
    averaged: dict[str, int] = field(default_factory=dict)

    def named(self, preset: str | None) -> dict[str, str]:
        """Return slots and scalar state: torch's, ours."""
        return self.slots if preset == self.formula else {**self.slots, **self.plain}

    def factor(self, slot: str, lr: float) -> float:
        """Return what torch's values are multiplied by.

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

    def settings(self, group: Mapping[str, Any]) -> Settings:
        """Return the hyperparameters of a group of torch by our names."""
        found: Settings = {}
        for theirs, ours in self.keys.items():
            if theirs in group:
                value = self.words.get(theirs, {}).get(group[theirs], group[theirs])
                found |= dict(zip(ours, value, strict=True)) if _several(ours) else {ours: value}
        return found

    def keyed(self, values: Mapping[str, Any]) -> Settings:
        """Return this library's hyperparameters under torch's names."""
        found: Settings = {}
        for theirs, ours in self.keys.items():
            value = tuple(values[name] for name in ours) if _several(ours) else values[ours]
            back = {mine: word for word, mine in self.words.get(theirs, {}).items()}
            found[theirs] = back.get(value, value)
        return found

    def said(self, values: Mapping[str, Any]) -> str:
        """Return the warning about differences, given this library's hyperparameters."""
        same = values["preset"] == self.formula or (self.idle and not values[self.idle])
        if not self.differs or same:
            return ""
        return f'{self.ours}: {self.differs}; preset="torch" goes on exactly'


def _several(ours: Any) -> bool:
    return isinstance(ours, tuple)


_BETAS = {"betas": ("beta_1", "beta_2"), "eps": "epsilon"}
_MOMENTS = {"exp_avg": "momentum", "exp_avg_sq": "velocity"}
_ADAM: dict[str, Any] = {
    "keys": {**_BETAS, "amsgrad": "amsgrad"},
    "slots": {**_MOMENTS, "max_exp_avg_sq": "velocity_hat"},
    "differs": "epsilon is added before the bias correction here and after it in torch; with "
    "epsilon=0 they agree",
    "idle": "epsilon",
}
_NADAM: dict[str, Any] = {
    "keys": {**_BETAS, "momentum_decay": "schedule_decay"},
    "slots": {**_MOMENTS, "mu_product": "m_schedule"},
}
_LATER = (
    "a new lr takes hold of the steps to come here, and of the momentum that there is already in "
    "torch; while lr stays they agree"
)

TABLE = (
    Native("SGD", "SGD",
           {"momentum": "momentum", "dampening": "dampening", "nesterov": "nesterov"},
           {"momentum_buffer": "momentum_buffer"}, {"momentum_buffer": "momentum"},
           {"momentum": (-1.0, 1)}, differs=_LATER, idle="momentum"),
    Native("RMSprop", "RMSprop",
           {"alpha": "rho", "eps": "epsilon", "momentum": "momentum", "centered": "centered"},
           {"square_avg": "velocity", "momentum_buffer": "momentum_buffer",
            "grad_avg": "average_gradient"}, {"momentum_buffer": "momentum"},
           {"momentum": (1.0, 1)}, differs=_LATER, idle="momentum"),
    Native("Adagrad", "Adagrad",
           {"lr_decay": "decay", "initial_accumulator_value": "initial_accumulator_value",
            "eps": "epsilon"}, {"sum": "accumulator"}),
    Native("Adadelta", "Adadelta", {"rho": "rho", "eps": "epsilon"},
           {"square_avg": "accumulated_grad", "acc_delta": "accumulated_delta_var"}),
    Native("Adam", "Adam", **_ADAM),
    Native("AdamW", "AdamW", **_ADAM, decoupled=True),
    Native("Adamax", "Adamax", _BETAS, {"exp_avg": "momentum", "exp_inf": "norm"},
           idle="epsilon",
           differs="epsilon is added to the norm here and to the gradient's magnitude in torch; "
           "with epsilon=0 they agree"),
    Native("Nadam", "NAdam", **_NADAM),
    Native("NadamW", "NAdam", **_NADAM, decoupled=True),
    Native("RAdam", "RAdam", _BETAS, _MOMENTS, idle="epsilon",
           differs="epsilon is added after the bias correction here and before it in torch; with "
           "epsilon=0 they agree"),
    Native("ASGD", "ASGD", {"lambd": "lambd", "alpha": "alpha", "t0": "t0"},
           {"ax": "mean", "eta": "next_eta"}, {"eta": ""}, derived=("eta", "mu"),
           differs="a new lr takes hold at once here and a step later in torch; while lr stays "
           "they agree"),
    Native("Rprop", "Rprop",
           {"etas": ("eta_minus", "eta_plus"), "step_sizes": ("step_min", "step_max")},
           {"prev": "previous_grad", "step_size": "step_length"}, {"step_size": "step_size"},
           {"step_size": (1.0, -1)},
           differs="a new lr changes the sizes that there are already here and not in torch; while "
           "lr stays they agree"),
    Native("Adafactor", "Adafactor",
           {"beta2_decay": "beta_2_decay", "eps": ("epsilon_1", "epsilon_2"),
            "d": "clip_threshold"},
           {"row_var": "row_var", "col_var": "col_var", "variance": "variance"},
           {"row_var": "row_velocity", "col_var": "column_velocity", "variance": "velocity"},
           decoupled=True, machine="epsilon_1", averaged={"row_var": -1, "col_var": -2},
           differs="epsilon_1 is added to squares here, and limits what is divided by in torch"),
    Native("Muon", "Muon",
           {"momentum": "momentum", "nesterov": "nesterov",
            "ns_coefficients": ("ns_a", "ns_b", "ns_c"), "eps": "epsilon", "ns_steps": "ns_steps",
            "adjust_lr_fn": "scaling"},
           {"momentum_buffer": "momentum"}, decoupled=True,
           differs="torch iterates in bfloat16 and limits the norm by epsilon, which is added here",
           words={"adjust_lr_fn": {None: "shape", "original": "shape",
                                   "match_rms_adamw": "rms"}}),
    Native("Adam", "SparseAdam", _BETAS, _MOMENTS, formula="keras2", particular=True,
           sparse=True),
)  # fmt: skip
"""The classes of torch that this library has; where several rows are for one of ours, the first."""

SCALARS = ("m_schedule", "next_eta")
"""Scalar state of this library's optimizers."""


def natives_of(ours: str) -> list[Native]:
    """Return torch's counterparts of a class of this library, by its name in any case."""
    return [row for row in TABLE if row.ours.lower() == ours.lower()]


def native_of(name: str) -> Native | None:
    """Return the row of a class of torch, by its name in any case; None where there is none."""
    return next((row for row in TABLE if row.theirs.lower() == name.lower()), None)
