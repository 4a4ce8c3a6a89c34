"""Engines: the ways to carry out one step over many arrays.

The array engine serves every array; the fused ones, each a package of its own that may be left out,
serve some of them faster. What engines share lies outside of these packages.
"""

from __future__ import annotations

from .array.engine import measure, sweep
from .array.unit_clipping import limited
from .choice import Engines, captures, refuse_capturing, sizes_of
from .host import back, hosted, on_gpu
from .mode import MODES, engine, forced
from .resident import Kept, Resident
from .steps import OWN, Act, Column, Counting, Once, Step, carry_out

__all__ = [
    "MODES",
    "OWN",
    "Act",
    "Column",
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
