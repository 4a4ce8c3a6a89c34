"""Sums along rows and columns, in the same order as in the CPU engine."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..._typing import Array, Namespace
from ...arrays.backend import Functions
from ...arrays.libraries import Backend
from ...numerics.sums import sums_along
from ...rules.rule import Rule
from ...rules.symbols import traced

__all__ = ["functions", "in_order", "with_sums"]


def functions(rule: Rule, backend: Backend, like: Array) -> Namespace:
    """Return the ``xp`` of a rule, with sums in a fixed order if the rule has any.

    Parameters
    ----------
    rule : Rule
        The rule.
    backend : Backend
        The library of the arrays.
    like : array
        One of them.

    Returns
    -------
    namespace
        The library's own functions if the host cannot read the arrays, or the rule is beyond fused
        loops; no fused engine serves these.
    """
    if rule.kind != "matrix" or not in_order(backend, like) or traced(rule) is None:
        return backend.xp
    return with_sums(backend)


def in_order(backend: Backend, like: Array) -> bool:
    """Return whether arrays like this one are on the host, which adds up in a specified order."""
    return not backend.compiles and backend.host_view(like) is not None


def with_sums(backend: Backend) -> Namespace:
    """Return a library's array functions, with sums along axes in the specified order."""

    def total(x: Array, axis: Any, keepdims: bool, share: bool) -> Array:
        axes = tuple(sorted(axis)) if isinstance(axis, tuple) else (axis,)
        found = sums_along(np.asarray(backend.host_view(x)), axes)
        found = found / prod(x.shape[k] for k in axes) if share else found
        found = np.expand_dims(found, axes) if keepdims else found
        return backend.scalar(found, backend.dtype(x), x)

    return Functions(
        {
            "mean": lambda x, axis, keepdims=False: total(x, axis, keepdims, True),
            "sum": lambda x, axis, keepdims=False: total(x, axis, keepdims, False),
        },
        backend.xp,
    )
