"""Conversion of arrays to and from a native optimizer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._typing import Array, Scalar
from ..arrays.libraries import backend_of


def native_class(module: str, name: str) -> type[Any] | None:
    """Return a class of a library if that is imported; otherwise there are no instances."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) else None


def host(x: Array) -> np.ndarray:
    """Return the values on the host, as a view if possible."""
    backend = backend_of(x)
    view = backend.host_view(x)
    return backend.to_host(x) if view is None else view


def fresh(x: Array) -> np.ndarray:
    """Return a copy of the values on the host, in native byte order."""
    values = host(x)
    return np.array(values, values.dtype if values.dtype.isnative else values.dtype.name, order="C")


def put_back(value: np.ndarray, like: Array) -> Array:
    """Write values into a writeable array; otherwise return a new one of its library."""
    backend = backend_of(like)
    with backend.guard(like):
        view = backend.host_view(like) if backend.writable(like) else None
        if view is not None:
            view[...] = value
            return like
        new = backend.from_host(value, like)
        if not backend.writable(like):
            return new
        backend.store(like, new)
    return like


def scaled(gradients: Sequence[Array | None], unscale: Scalar) -> Sequence[Array | None]:
    """Return gradients multiplied by a number."""
    if unscale == 1.0:
        return gradients
    return [None if g is None else _times(g, unscale) for g in gradients]


def _times(g: Array, factor: Scalar) -> Array:
    backend = backend_of(g)
    with backend.guard(g):
        return backend.array(g * backend.scalar(factor, backend.dtype(g), g))
