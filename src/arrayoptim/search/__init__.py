"""Optimizers driven by loss values: a search is told the loss of a point, and asks for the next.

It uses only the array API standard; `lbfgs.LBFGS` drives it on trees of any array library.
"""

from __future__ import annotations

from ..config.registry import register_wrapper
from .lbfgs import LBFGS

__all__ = ["LBFGS"]

register_wrapper(LBFGS)
