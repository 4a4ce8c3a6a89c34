"""The requested engine: the fastest, or one by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["FUSED", "MODES", "engine", "forced", "mode"]

FUSED = ("cpu", "gpu")
"""The engines that run a whole step in one pass."""

MODES = ("auto", "array", *FUSED)
"""Values of `engine` and the environment variable ``ARRAYOPTIM_ENGINE``."""

_FORCED: ContextVar[str | None] = ContextVar("arrayoptim_engine", default=None)

# Called at every step: a Python wrapper would double its cost.
forced: Callable[[], str | None] = _FORCED.get
"""Return the engine requested by `engine`; None outside of it."""


def mode() -> str:
    """Return the requested engine: ``"auto"`` unless `engine` or the environment sets another.

    Raises
    ------
    ValueError
        If the environment variable has an unknown value.
    """
    asked = forced()
    if asked is not None:
        return asked
    word = os.environ.get("ARRAYOPTIM_ENGINE", "auto")
    if word not in MODES:
        raise ValueError(f"ARRAYOPTIM_ENGINE: found {word!r}, wanted one of {', '.join(MODES)}")
    return word


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Select the engine of the steps taken inside a ``with`` block.

    Parameters
    ----------
    name : {"auto", "array", "cpu", "gpu"}
        ``"auto"`` selects the fastest for each array; ``"array"`` is the specification; ``"cpu"``
        are the fused loops and ``"gpu"`` the fused kernels, which raise a ValueError for arrays
        that they cannot serve.

    Raises
    ------
    ValueError
        If there is no such engine.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayoptim as ao
    >>> with ao.engine("array"):
    ...     ao.SGD(lr=0.5).apply(np.array([1.0]), np.array([2.0]))
    array([1.5])
    """
    if name not in MODES:
        raise ValueError(f"engine: found {name!r}, wanted one of {', '.join(MODES)}")
    token = _FORCED.set(name)
    try:
        yield
    finally:
        _FORCED.reset(token)
