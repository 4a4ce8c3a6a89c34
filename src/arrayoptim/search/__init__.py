"""Optimizers that evaluate the loss themselves: a search is told what came of a point, and asks on.

It knows array libraries by the array API standard alone; `lbfgs.LBFGS` drives it on their trees.
"""

from __future__ import annotations

from ..config.registry import register_wrapper
from .lbfgs import LBFGS

__all__ = ["LBFGS"]

register_wrapper(LBFGS)
