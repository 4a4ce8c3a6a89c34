"""Names of torch's optimizers, hyperparameters and state, and their counterparts here.

This one table is used by ``arrayoptim.torch`` for its settings and state, to exchange states
with torch, and to explain unknown names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, Any]


@dataclass(frozen=True)
class Native:
    """The names of a torch optimizer, and their counterparts in this library.

    Attributes
    ----------
    ours, theirs : str
        The names of the classes here and in torch.
    keys : dict of str to str or tuple of str
        Maps torch's hyperparameters to ours.
    slots : dict of str to str
        Maps torch's slots and scalar state to ours with ``preset="torch"``.
    plain : dict of str to str
        Entries that replace those in `slots` without the preset.
    scaled : dict of str to (float, int)
        Slots of ours that equal torch's times a factor and a power of the learning rate: factor
        and exponent.
    differs : str
        Text of the warning about how the formulas differ without the preset; empty if they agree.
    idle : str
        Our hyperparameter whose value 0 removes the difference.
    words : dict
        For torch's hyperparameters whose values have other names here: torch's value to ours.
    formula : str or None
        The preset under which the formula is torch's.
    decoupled : bool
        Whether torch's ``weight_decay`` is decoupled by default.
    derived : tuple of str
        Further scalars in torch's state that are computed here.
    particular : bool
        Whether torch's class restricts the parameters it accepts.
    sparse : bool
        Whether only the entries present in a sparse gradient are stepped.
    machine : str
        Our hyperparameter whose None means the machine epsilon of a group's first parameter.
    averaged : dict of str to int
        Torch's slots with an axis of length 1 that ours lack without the preset: name and axis.
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
        """Return the map from torch's slots and scalar state to ours."""
        return self.slots if preset == self.formula else {**self.slots, **self.plain}

    def factor(self, slot: str, lr: float) -> float:
        """Return the factor from torch's values to ours.

        Raises
        ------
        ValueError
            If the learning rate is 0, so that neither value determines the other.
        """
        if slot not in self.scaled:
            return 1.0
        if lr == 0:
            raise ValueError(
                f"{slot} here depends on the learning rate, unlike in torch; at lr=0 it cannot be "
                "converted. Set the lr with which the last step was taken"
            )
        times, power = self.scaled[slot]
        return times * float(lr) ** power

    def settings(self, group: Mapping[str, Any]) -> Settings:
        """Return the hyperparameters of a torch param group by our names."""
        found: Settings = {}
        for theirs, ours in self.keys.items():
            if theirs in group:
                value = self.words.get(theirs, {}).get(group[theirs], group[theirs])
                found |= dict(zip(ours, value, strict=True)) if _several(ours) else {ours: value}
        return found

    def keyed(self, values: Mapping[str, Any]) -> Settings:
        """Return this library's hyperparameters by torch's names."""
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
        return f'{self.ours}: {self.differs}; preset="torch" continues exactly'


def _several(ours: Any) -> bool:
    return isinstance(ours, tuple)


_BETAS = {"betas": ("beta_1", "beta_2"), "eps": "epsilon"}
_MOMENTS = {"exp_avg": "momentum", "exp_avg_sq": "velocity"}
_ADAM: dict[str, Any] = {
    "keys": {**_BETAS, "amsgrad": "amsgrad"},
    "slots": {**_MOMENTS, "max_exp_avg_sq": "velocity_hat"},
    "differs": "epsilon is added before the bias correction here, but after it in torch; with "
    "epsilon=0 they agree",
    "idle": "epsilon",
}
_NADAM: dict[str, Any] = {
    "keys": {**_BETAS, "momentum_decay": "schedule_decay"},
    "slots": {**_MOMENTS, "mu_product": "m_schedule"},
}
_LATER = (
    "a new lr applies to new gradients only here, but to the existing momentum too in torch; at "
    "constant lr they agree"
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
           differs="epsilon is added to the norm here, but to the gradient's magnitude in torch; "
           "with epsilon=0 they agree"),
    Native("Nadam", "NAdam", **_NADAM),
    Native("NadamW", "NAdam", **_NADAM, decoupled=True),
    Native("RAdam", "RAdam", _BETAS, _MOMENTS, idle="epsilon",
           differs="epsilon is added after the bias correction here, but before it in torch; with "
           "epsilon=0 they agree"),
    Native("ASGD", "ASGD", {"lambd": "lambd", "alpha": "alpha", "t0": "t0"},
           {"ax": "mean", "eta": "next_eta"}, {"eta": ""}, derived=("eta", "mu"),
           differs="a new lr takes effect at once here, but a step later in torch; at constant "
           "lr they agree"),
    Native("Rprop", "Rprop",
           {"etas": ("eta_minus", "eta_plus"), "step_sizes": ("step_min", "step_max")},
           {"prev": "previous_grad", "step_size": "step_length"}, {"step_size": "step_size"},
           {"step_size": (1.0, -1)},
           differs="a new lr rescales existing step sizes here, but not in torch; at constant lr "
           "they agree"),
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
"""Torch's optimizers that this library has; the first row is the default for each of ours."""

SCALARS = ("m_schedule", "next_eta")
"""Scalar state of this library's optimizers."""


def natives_of(ours: str) -> list[Native]:
    """Return torch's counterparts of a class of this library, by case-insensitive name."""
    return [row for row in TABLE if row.ours.lower() == ours.lower()]


def native_of(name: str) -> Native | None:
    """Return the row of a torch class, by case-insensitive name; None if there is none."""
    return next((row for row in TABLE if row.theirs.lower() == name.lower()), None)
