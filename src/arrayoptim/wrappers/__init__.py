"""Wrappers around optimizers: accumulate, scale or filter gradients, or take them elsewhere.

A wrapper has two parts, each with its own rule, state, checks and engine: the inner optimizer, and
a small one that holds the wrapper's slots and scalars. The wrapper decides in which order they
step; weight lists and files contain both.
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
