"""Engines: implementations of a step over many arrays.

The array engine serves every array; the fused engines, each an optional package, serve some of them
faster. What engines share lives outside of these packages.
"""

from __future__ import annotations

from .array.engine import measure, sweep
from .array.unit_clipping import limited
from .choice import Engines, captures, refuse_capturing, sizes_of
from .contents import Contents
from .host import back, hosted, on_gpu
from .mode import MODES, engine, forced
from .resident import Kept, Resident
from .steps import OWN, Act, Column, Counting, Once, Step, carry_out

__all__ = [
    "MODES",
    "OWN",
    "Act",
    "Column",
    "Contents",
    "Counting",
    "Engines",
    "Kept",
    "Once",
    "Resident",
    "Step",
    "back",
    "captures",
    "carry_out",
    "engine",
    "forced",
    "hosted",
    "limited",
    "measure",
    "on_gpu",
    "refuse_capturing",
    "sizes_of",
    "sweep",
]
