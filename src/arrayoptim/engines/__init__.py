"""Engines: ways to carry out one step over many arrays."""

from __future__ import annotations

from .array import Step, sweep

__all__ = ["Step", "sweep"]
