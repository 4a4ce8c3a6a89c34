"""Wrappers around optimizers: gradients accumulated, scaled, filtered, or taken elsewhere.

A wrapper has two parts, each with rule, state, checks and engines of its own: the optimizer inside,
and a small one that keeps the wrapper's slots and numbers. It says in which order they step; lists
of weights and files hold both.
"""

from __future__ import annotations

from ._base import Wrapper
from .accumulation import GradientAccumulation
from .grokfast import Grokfast
from .lookahead import Lookahead
from .loss_scale import LossScale
from .sam import SAM
from .schedule_free import ScheduleFree

__all__ = [
    "SAM",
    "GradientAccumulation",
    "Grokfast",
    "Lookahead",
    "LossScale",
    "ScheduleFree",
    "Wrapper",
]
