"""optax's own names, signatures and defaults, implemented by this library's optimizers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
import optax

from ...config.validation import flag

__all__ = ["TABLE", "Alias", "Shown", "signature_of", "translated"]

BETAS = {"b1": "beta_1", "b2": "beta_2"}
EPS = {"eps": "epsilon"}
MOMENTS = {"momentum": "mu", "velocity": "nu"}


@dataclass(frozen=True)
class Alias:
    """The counterpart of one optax function.

    Attributes
    ----------
    ours : str
        The name of our class.
    words : dict of str to str
        Maps optax's arguments to our hyperparameters; always includes the learning rate.
    fixed : dict
        Hyperparameters for which optax has a different function.
    masks : str
        The argument with the mask of decayed parameters; empty if there is none.
    fields : dict of str to str
        Maps our slots to optax's fields, prefixed by a minus if the sign differs.
    free : bool
        Whether optax's update does not need parameters.
    home : str
        The module of optax: ``""`` or ``"contrib"``.
    """

    ours: str
    words: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    masks: str = ""
    fields: Mapping[str, str] = field(default_factory=lambda: MOMENTS)
    free: bool = False
    home: str = ""

    def theirs(self, name: str) -> Any:
        """Return optax's own function."""
        return getattr(optax.contrib if self.home else optax, name)


_DECAY = {"weight_decay": "weight_decay"}
_ADAM = {**BETAS, **EPS}

TABLE = {
    "adabelief": Alias("AdaBelief", BETAS, free=True),
    "adadelta": Alias(
        "Adadelta",
        {"rho": "rho", **EPS, "weight_decay": "l2"},
        masks="weight_decay_mask",
        fields={"accumulated_grad": "e_g", "accumulated_delta_var": "e_x"},
    ),
    "adagrad": Alias(
        "Adagrad",
        {"initial_accumulator_value": "initial_accumulator_value", **EPS},
        fields={"accumulator": "sum_of_squares"},
        free=True,
    ),
    "adam": Alias("Adam", _ADAM, free=True),
    "adamax": Alias("Adamax", _ADAM, fields={"momentum": "mu", "norm": "nu"}, free=True),
    "adamaxw": Alias(
        "Adamax", {**_ADAM, **_DECAY}, masks="mask", fields={"momentum": "mu", "norm": "nu"}
    ),
    "adamw": Alias("AdamW", {**_ADAM, **_DECAY}, masks="mask"),
    "adan": Alias(
        "Adan",
        {**BETAS, "b3": "beta_3", **_DECAY},
        masks="mask",
        fields={"momentum": "m", "difference": "v", "velocity": "n", "previous_grad": "g"},
    ),
    "amsgrad": Alias(
        "Adam",
        _ADAM,
        {"amsgrad": True},
        fields={**MOMENTS, "corrected_velocity_hat": "nu_max"},
        free=True,
    ),
    "lamb": Alias("LAMB", {**_ADAM, **_DECAY}, masks="mask"),
    "lars": Alias(
        "LARS",
        {**EPS, **_DECAY, "trust_coefficient": "trust_coefficient", "momentum": "momentum"},
        fields={"momentum": "-trace"},
    ),
    "lion": Alias("Lion", {**BETAS, **_DECAY}, masks="mask"),
    "nadam": Alias("Nadam", _ADAM, free=True),
    "nadamw": Alias("NadamW", {**_ADAM, **_DECAY}, masks="mask"),
    "radam": Alias("RAdam", {**_ADAM, "threshold": "threshold"}, free=True),
    "rmsprop": Alias(
        "RMSprop",
        {"decay": "rho", **EPS, "centered": "centered", "momentum": "momentum"},
        fields={"velocity": "nu", "average_gradient": "mu", "momentum": "-trace"},
        free=True,
    ),
    "rprop": Alias(
        "Rprop",
        {
            "eta_minus": "eta_minus",
            "eta_plus": "eta_plus",
            "min_step_size": "step_min",
            "max_step_size": "step_max",
        },
        fields={"previous_step": "prev_updates", "step_length": "step_sizes"},
        free=True,
    ),
    "sgd": Alias(
        "SGD",
        {"momentum": "momentum", "nesterov": "nesterov"},
        fields={"momentum_buffer": "trace"},
        free=True,
    ),
    "sign_sgd": Alias("Signum", {}, {"momentum": 0.0}, fields={}, free=True),
    "signum": Alias("Signum", {"beta": "momentum"}, fields={"momentum": "ema"}, free=True),
    "yogi": Alias("Yogi", _ADAM, free=True),
    "adopt": Alias("ADOPT", _ADAM, free=True, home="contrib"),
    "ademamix": Alias(
        "AdEMAMix",
        {**_ADAM, "b3": "beta_3", "alpha": "alpha", **_DECAY},
        masks="mask",
        fields={"momentum": "m1", "slow_momentum": "m2", "velocity": "nu"},
        home="contrib",
    ),
}

_OFF = {"momentum": 0.0}
"""Values that replace None."""


class Shown:
    """A default in a signature that `optax.inject_hyperparams` ignores, as it is not a number."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == (other.value if isinstance(other, Shown) else other))

    def __hash__(self) -> int:
        return hash(self.value)


def signature_of(name: str) -> inspect.Signature:
    """Return the signature of the installed optax function."""
    alias = TABLE[name]
    known = {"learning_rate", *alias.words}
    theirs = inspect.signature(alias.theirs(name))
    rows = [
        row.replace(default=Shown(row.default))
        if row.name not in known and isinstance(row.default, int | float)
        else row
        for row in theirs.parameters.values()
    ]
    return theirs.replace(parameters=rows)


def translated(name: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of optax's function by our names; None if one has no counterpart.

    Parameters
    ----------
    name : str
        The function of optax.
    given : mapping of str to object
        Its arguments, including defaults.
    """
    alias = TABLE[name]
    defaults = inspect.signature(alias.theirs(name)).parameters
    words: dict[str, Any] = {"preset": "optax", **alias.fixed}
    for key, value in given.items():
        if key == "learning_rate" and value is not None:
            words["lr"] = value
        elif key in alias.words:
            ours = alias.words[key]
            # optax then keeps a trace, for which our rule without momentum has no slot.
            if ours in _OFF and isinstance(value, int | float | np.generic) and value == 0:
                return None
            words[ours] = _OFF.get(ours, value) if value is None else value
            if isinstance(defaults[key].default, bool):
                words[ours] = flag(value)
        elif key != alias.masks and not _same(value, defaults[key].default):
            return None
    served = "lr" in words and all(_plain(x) for k, x in words.items() if k in alias.words.values())
    return words if served else None


def _same(value: Any, default: Any) -> bool:
    value = value.value if isinstance(value, Shown) else value
    return value is default or bool(isinstance(value, int | float | str) and value == default)


def _plain(value: Any) -> bool:
    """Whether a value is a number, a flag, or a schedule of them."""
    return isinstance(value, int | float | np.generic | jax.Array) or callable(value)
