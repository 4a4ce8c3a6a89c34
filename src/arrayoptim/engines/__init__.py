"""Engines: ways to carry out one step over many arrays."""

from __future__ import annotations

from ._cpu_addresses import itemsize
from ._offload_host import back, hosted
from ._units import limited
from .array import Step, measure, sweep
from .choice import MODES, Prepared, captures, engine, refuse_capturing

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
