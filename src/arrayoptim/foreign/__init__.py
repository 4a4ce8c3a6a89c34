"""Optimizers of TensorFlow, optax and torch behind this library's interface.

The native optimizer does all the arithmetic; arrays of other libraries are converted on the way
in and out. Its state is read and written by name, in the weight lists and files of this library.
A framework is imported only when one of its optimizers exists.
"""

from __future__ import annotations

from typing import Any

from ..config.registry import register_wrapper
from .base import Foreign
from .handover import native_class, put_back
from .optax import OptaxOptimizer
from .tensorflow import TFOptimizer
from .torch import TorchOptimizer

__all__ = ["Foreign", "OptaxOptimizer", "TFOptimizer", "TorchOptimizer", "put_back", "wrapped"]

for _cls in (OptaxOptimizer, TFOptimizer, TorchOptimizer):
    register_wrapper(_cls)

_NATIVE: tuple[tuple[str, str, type[Foreign]], ...] = (
    ("optax", "GradientTransformation", OptaxOptimizer),
    ("keras", "optimizers.Optimizer", TFOptimizer),
    ("tensorflow", "compat.v1.train.Optimizer", TFOptimizer),
    ("torch", "optim.Optimizer", TorchOptimizer),
)


def wrapped(native: Any) -> Foreign | None:
    """Wrap a native optimizer or a torch optimizer class; return None for anything else."""
    kind = next((kind for module, name, kind in _NATIVE if _is_of(native, module, name)), None)
    if kind is None:
        return None
    make: Any = kind
    made: Foreign = make(native)
    return made


def _is_of(native: Any, module: str, name: str) -> bool:
    base = native_class(module, name)
    if base is None:
        return False
    return isinstance(native, base) or (
        module == "torch" and isinstance(native, type) and issubclass(native, base)
    )
