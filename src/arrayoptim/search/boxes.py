"""The bounds of all entries, as vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._typing import Array
from ..arrays.trees import Structure
from .packing import Packing
from .searches import Box


def boxed(
    given: tuple[Any, Any], packed: Packing, leaves: Sequence[Array | None], structure: Structure
) -> Box:
    """Return bounds as vectors; None if there are none.

    Raises
    ------
    ValueError
        If they do not match the parameters, or are contradictory.
    """
    if all(bound is None for bound in given):
        return None
    ends = zip(given, (-np.inf, np.inf), strict=True)
    low, high = (
        packed.limits(other if bound is None else bound, leaves, structure) for bound, other in ends
    )
    if not packed.backend.traced(low) and bool(packed.backend.xp.any(low > high)):
        raise ValueError("LBFGS: a lower bound lies above the upper one")
    return low, high
