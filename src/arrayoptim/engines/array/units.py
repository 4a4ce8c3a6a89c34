"""Adaptive clipping: the gradient of each unit, limited in proportion to the unit's own norm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from ..._typing import Array, Scalar
from ...arrays.libraries import COMPLEX, COMPUTE, Backend, backend_of
from ...gradients import folded, scaled_norm

__all__ = ["SMALLEST", "limited"]

SMALLEST = 1e-3
"""Lower bound of a unit's norm, so that a unit that starts at zero can move."""


def limited(
    numbers: Mapping[int, Mapping[str, Scalar]],
    units: str,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
) -> Sequence[Array | None]:
    """Return the gradients, scaled down where a unit's is too large.

    Parameters
    ----------
    numbers : mapping of int to mapping
        For each place the numbers of the stage that clips: ``units`` says how large the gradient of
        a unit may be, in multiples of the unit, once multiplied by ``scale``.
    units : {"last", "first", "tensor"}
        Which axis counts the units; with the last word, and in an array of fewer than two axes, all
        entries are one.
    params, grads : sequence of array or None
        Parameters and gradients.

    Returns
    -------
    sequence of array or None
        New arrays in the compute dtype in place of those that are clipped adaptively.
    """
    rows: dict[Backend, list[tuple[int, Scalar, Scalar]]] = {}
    for i, own in numbers.items():
        bound = own.get("units", 0.0)
        limits = not isinstance(bound, float) or bound > 0.0
        if limits and params[i] is not None and grads[i] is not None:
            row = i, bound, own.get("scale", 1.0)
            rows.setdefault(backend_of(params[i]), []).append(row)
    new = list(grads)
    for backend, found in rows.items():
        places, bounds, scales = zip(*found, strict=True)
        given = [params[i] for i in places], [grads[i] for i in places]
        clipped = _function(backend, units)(*given, list(bounds), list(scales))
        for i, g in zip(places, clipped, strict=True):
            new[i] = g
    return new


@cache
def _function(backend: Backend, units: str) -> Callable[..., list[Array]]:
    def limit(params: Any, grads: Any, bounds: Any, scales: Any) -> list[Array]:
        rows = zip(params, grads, bounds, scales, strict=True)
        clipped = []
        for row in rows:
            with backend.guard(row[0]):
                clipped.append(_limited(backend, units, *row))
        return clipped

    return backend.compile(limit)


def _limited(
    backend: Backend, units: str, p: Array, g: Array, bound: Scalar, scale: Scalar
) -> Array:
    xp, stored = backend.xp, backend.dtype(p)
    axes = _reduced(units, len(p.shape), stored in COMPLEX)
    x, y = (backend.as_real(v) if stored in COMPLEX else v for v in (p, g))
    if backend.compiles:
        kind = backend.sums or COMPUTE[backend.dtype(g)]
        wide = [backend.cast(v, kind) for v in (x, y)]
        large, given = (scaled_norm(v, xp, axis=axes, keepdims=True) for v in wide)
    else:
        kind = backend.widest(p)
        wide = [backend.cast(v, kind) for v in (x, y)]
        large, given = (scaled_norm(v, xp, folded, axis=axes, keepdims=True) for v in wide)
    top, least, size, one = (backend.scalar(v, kind, p) for v in (bound, SMALLEST, scale, 1.0))
    most, given = top * xp.maximum(large, least), size * given
    over = (given > most) & (top > 0)
    factor = xp.where(over, most / xp.where(over, given, one), one)
    narrow = COMPUTE[stored]
    if COMPUTE[backend.dtype(g)] == narrow:
        result = backend.cast(y, narrow) * backend.cast(factor, narrow)
    else:
        # Rounded before it is clipped, a gradient of more bits might overflow.
        result = backend.cast(wide[1] * factor, narrow)
    return backend.array(backend.as_complex(result) if stored in COMPLEX else result)


def _reduced(units: str, ndim: int, pairs: bool) -> tuple[int, ...]:
    """Return the axes over which a norm goes; a complex number is a pair along one more."""
    every = range(ndim + pairs)
    if units == "tensor" or ndim < 2:
        return tuple(every)
    kept = 0 if units == "first" else ndim - 1
    return tuple(k for k in every if k != kept)
