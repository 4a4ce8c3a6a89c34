"""The choice of a search's implementation: compiled, or on arrays of any library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._typing import Array
from ..engines.mode import mode
from .searches import OnArrays


def way(leaves: Sequence[Array | None]) -> type[Any]:
    """Return the class of the fastest search for some arrays, or of the requested engine's.

    Raises
    ------
    ValueError
        If engine ``"cpu"`` is requested and cannot serve these arrays.
    """
    asked = mode()
    if asked in ("array", "gpu"):
        return OnArrays
    reason = _refusal(leaves)
    if reason is None:
        from .compiled import Compiled

        return Compiled
    if asked == "cpu":
        raise ValueError(f'engine "cpu" cannot serve LBFGS: {reason}')
    return OnArrays


def _refusal(leaves: Sequence[Array | None]) -> str | None:
    try:
        from ..engines.cpu import serving
    except ModuleNotFoundError:
        return "this installation has no engine 'cpu'"
    return next(filter(None, map(serving.array_refusal, filter(_there, leaves))), None)


def _there(leaf: Array | None) -> bool:
    return leaf is not None
