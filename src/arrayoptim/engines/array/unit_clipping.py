"""Adaptive clipping: the gradient norm of each unit, bounded relative to the unit's own norm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from ..._typing import Array, Scalar
from ...arrays.libraries import COMPLEX, COMPUTE, Backend, backend_of
from ...gradients import folded, scaled_norm
from .stacks import alike

__all__ = ["SMALLEST", "limited"]

SMALLEST = 1e-3
"""Lower bound of a unit's norm, so that a unit that starts at zero can move."""


def limited(
    numbers: Mapping[int, Mapping[str, Scalar]],
    units: str,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
) -> Sequence[Array | None]:
    """Return the gradients, scaled down where a unit's norm is too large.

    Parameters
    ----------
    numbers : mapping of int to mapping
        For each index, the numbers of the clipping stage: ``units`` is the maximum ratio of the
        norms of a unit's gradient, once multiplied by ``scale``, and of the unit.
    units : {"last", "first", "tensor"}
        Which axis counts the units; with ``"tensor"``, and in an array of fewer than two axes,
        there is a single unit.
    params, grads : sequence of array or None
        Parameters and gradients.

    Returns
    -------
    sequence of array or None
        The gradients, with new arrays in the compute dtype for those that are clipped adaptively.
    """
    rows: dict[Backend, dict[int, tuple[Scalar, Scalar]]] = {}
    for i, own in numbers.items():
        bound = own.get("units", 0.0)
        limits = not isinstance(bound, float) or bound > 0.0
        if limits and params[i] is not None and grads[i] is not None:
            row = bound, own.get("scale", 1.0)
            rows.setdefault(backend_of(params[i]), {})[i] = row
    new = list(grads)
    for backend, found in rows.items():
        if not backend.compiles:
            for i, g in _together(backend, units, params, grads, found):
                new[i] = g
            continue
        bounds, scales = map(list, zip(*found.values(), strict=True))
        given = [params[i] for i in found], [grads[i] for i in found]
        clipped = _function(backend, units)(*given, bounds, scales)
        for i, g in zip(found, clipped, strict=True):
            new[i] = g
    return new


def _together(
    backend: Backend,
    units: str,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    numbers: Mapping[int, tuple[Scalar, Scalar]],
) -> Iterator[tuple[int, Array]]:
    """Clip arrays of equal shape as one stack, and yield each with its index."""
    # Numbers that are arrays cannot be compared on the host.
    known = {i: row if all(isinstance(x, float) for x in row) else i for i, row in numbers.items()}
    for places in alike(params, grads, known):
        p, g = params[places[0]], grads[places[0]]
        row = numbers[places[0]]
        with backend.guard(p):
            if len(places) == 1:
                yield places[0], _limited(backend, units, p, g, *row)
                continue
            p, g = (backend.xp.stack([x[i] for i in places]) for x in (params, grads))
            clipped = _limited(backend, units, p, g, *row, stacked=1)
            for k, i in enumerate(places):
                yield i, backend.array(clipped[k, ...])


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
    backend: Backend,
    units: str,
    p: Array,
    g: Array,
    bound: Scalar,
    scale: Scalar,
    stacked: int = 0,
) -> Array:
    xp, stored = backend.xp, backend.dtype(p)
    reduced = _reduced(units, len(p.shape) - stacked, stored in COMPLEX)
    axes = tuple(k + stacked for k in reduced)
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
        # Clipped first, as the cast of a wider gradient might overflow.
        result = backend.cast(wide[1] * factor, narrow)
    return backend.array(backend.as_complex(result) if stored in COMPLEX else result)


def _reduced(units: str, ndim: int, pairs: bool) -> tuple[int, ...]:
    """Return the axes of a norm; a complex number is a pair along an additional one."""
    every = range(ndim + pairs)
    if units == "tensor" or ndim < 2:
        return tuple(every)
    kept = 0 if units == "first" else ndim - 1
    return tuple(k for k in every if k != kept)
