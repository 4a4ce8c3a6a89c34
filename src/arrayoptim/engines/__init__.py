"""Engines: ways to carry out one step over many arrays."""

from __future__ import annotations

from ._units import limited
from .array import Step, sweep
from .choice import MODES, Prepared, engine

__all__ = ["MODES", "Prepared", "Step", "engine", "limited", "sweep"]
