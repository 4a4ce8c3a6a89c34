"""Type aliases shared by modules. Arrays of different libraries have no common base class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Array: TypeAlias = Any
"""An array of any supported library."""

Tree: TypeAlias = Any
"""A nested container of arrays: list, tuple, dict, registered class, or a single array."""

Scalar: TypeAlias = Any
"""A Python float on the host, or a 0-d array while a compiler traces the step."""

Namespace: TypeAlias = Any
"""A module with array functions, such as ``numpy`` or ``array_api_compat.torch``."""

Schedule: TypeAlias = Callable[[Any], Any]
"""A function of the step number, counted from 0."""
