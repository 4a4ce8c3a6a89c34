"""Engines: ways to carry out one step over many arrays."""

from __future__ import annotations

from .array.engine import Step, measure, sweep
from .array.units import limited
from .choice import MODES, Prepared, captures, engine, refuse_capturing
from .cpu.addresses import itemsize
from .offload.host import back, hosted

__all__ = [
    "MODES",
    "Prepared",
    "Step",
    "back",
    "captures",
    "engine",
    "hosted",
    "itemsize",
    "limited",
    "measure",
    "refuse_capturing",
    "sweep",
]
