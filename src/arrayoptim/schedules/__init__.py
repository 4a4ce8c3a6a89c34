"""Schedules: hyperparameters as functions of the step.

Every numeric hyperparameter, of an optimizer or a group, also accepts a schedule. Any function of
the step number, counted from 0, works; those of this module can also be saved, compiled and
drawn.

Examples
--------
>>> import arrayoptim as ao
>>> rate = ao.schedules.CosineDecay(0.0, 1000, warmup_target=0.5, warmup_steps=100)
>>> opt = ao.Adam(lr=rate, beta_1=ao.schedules.LinearWarmup(0.9, 50, initial_learning_rate=0.5))
>>> opt.iterations = 25
>>> opt.lr, opt.beta_1
(0.125, 0.7)
"""

from __future__ import annotations

from typing import NoReturn as _NoReturn

from ..config.fields import number
from ..config.other_libraries import rate as _rate
from ._base import Schedule, deserialize, names, register, serialize
from ._combined import Joined, Scaled, join, scale
from ._keras import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    PiecewiseConstantDecay,
    PolynomialDecay,
)
from ._plateau import Plateau
from ._plot import plot
from ._warmup import LinearWarmup, MomentumRamp, OneCycle, WarmupStableDecay

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "Joined",
    "LinearWarmup",
    "MomentumRamp",
    "OneCycle",
    "PiecewiseConstantDecay",
    "Plateau",
    "PolynomialDecay",
    "Scaled",
    "Schedule",
    "WarmupStableDecay",
    "deserialize",
    "join",
    "names",
    "number",
    "plot",
    "register",
    "scale",
    "serialize",
]


def __getattr__(name: str) -> _NoReturn:
    """Point to this library's name for another library's schedule."""
    told = "" if name.startswith("_") else _rate(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{told}")
