"""Adaptive clipping: the gradient norm of each unit, bounded relative to the unit's own norm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from math import inf
from typing import Any

import numpy as np

from ..._typing import Array, Scalar
from ...arrays.libraries import COMPLEX, COMPUTE, Backend, backend_of
from ...gradients import folded, norms_of_units, scaled_norm
from ...rules.stages import UNITS, limit
from ..units import SMALLEST, memory_order, parts_of
from .stacks import alike

__all__ = ["limited"]

Row = tuple[str, Scalar, Scalar]
"""Which axis counts the units, the bound on their ratio, and the factor of their gradient."""


def limited(
    numbers: Mapping[int, Mapping[str, Scalar]],
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
) -> Sequence[Array | None]:
    """Return the gradients, scaled down where a unit's norm is too large.

    Parameters
    ----------
    numbers : mapping of int to mapping
        For each index, the numbers of the stages: one named in `UNITS` is the maximum ratio of the
        norms of a unit's gradient, once multiplied by ``scale``, and of the unit.
    params, grads : sequence of array or None
        Parameters and gradients.

    Returns
    -------
    sequence of array or None
        The gradients, with new arrays in the compute dtype for those that are clipped adaptively.
    """
    rows: dict[Backend, dict[int, Row]] = {}
    for i, own in numbers.items():
        for name in UNITS.keys() & own.keys():
            bound = own[name]
            limits = not isinstance(bound, float) or bound < inf
            if limits and params[i] is not None and grads[i] is not None:
                row = UNITS[name], bound, own.get("scale", 1.0)
                rows.setdefault(backend_of(params[i]), {})[i] = row
    new = list(grads)
    for backend, found in rows.items():
        if not backend.compiles:
            for i, g in _together(backend, params, grads, found):
                new[i] = g
            continue
        units, bounds, scales = map(list, zip(*found.values(), strict=True))
        given = [params[i] for i in found], [grads[i] for i in found]
        clipped = _function(backend, tuple(units))(*given, bounds, scales)
        for i, g in zip(found, clipped, strict=True):
            new[i] = g
    return new


def _together(
    backend: Backend,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    numbers: Mapping[int, Row],
) -> Iterator[tuple[int, Array]]:
    """Clip arrays of equal shape as one stack, and yield each with its index."""
    orders = {i: _order(backend, params[i]) for i in numbers}
    # Numbers that are arrays cannot be compared on the host.
    known = {
        i: (orders[i], row if all(isinstance(x, float) for x in row[1:]) else i)
        for i, row in numbers.items()
    }
    for places in alike(params, grads, known):
        p, g = params[places[0]], grads[places[0]]
        of = orders[places[0]], numbers[places[0]]
        with backend.guard(p):
            if len(places) == 1:
                yield places[0], _limited(backend, p, g, *of)
                continue
            p, g = (backend.xp.stack([x[i] for i in places]) for x in (params, grads))
            clipped = _limited(backend, p, g, *of, stacked=1)
            for k, i in enumerate(places):
                yield i, backend.array(clipped[k, ...])


@cache
def _function(backend: Backend, units: tuple[str, ...]) -> Callable[..., list[Array]]:
    def clip(params: Any, grads: Any, bounds: Any, scales: Any) -> list[Array]:
        rows = zip(params, grads, units, bounds, scales, strict=True)
        clipped = []
        for p, g, *row in rows:
            with backend.guard(p):
                clipped.append(_limited(backend, p, g, (), tuple(row)))
        return clipped

    return backend.compile(clip)


def _order(backend: Backend, p: Array) -> tuple[int, ...]:
    """Return the axes of a parameter in memory order, as far as it is known."""
    span = backend.span(p) if len(p.shape) > 1 else None
    return tuple(range(len(p.shape))) if span is None else memory_order(span.strides)


def _limited(
    backend: Backend, p: Array, g: Array, order: tuple[int, ...], row: Row, stacked: int = 0
) -> Array:
    units, bound, scale = row
    xp, stored = backend.xp, backend.dtype(p)
    narrow = COMPUTE[stored]
    x, y = (backend.as_real(v) if stored in COMPLEX else v for v in (p, g))
    reduced = tuple(k + stacked for k in _reduced(units, len(p.shape) - stacked, stored in COMPLEX))
    if backend.compiles:
        kind = backend.sums or COMPUTE[backend.dtype(g)]
        wide = [backend.cast(v, kind) for v in (x, y)]
        norms = [scaled_norm(v, xp, axis=reduced, keepdims=True) for v in wide]
    else:
        kind = backend.widest(p)
        wide = [backend.cast(v, kind) for v in (x, y)]
        views = [backend.host_view(v) for v in wide]
        if any(view is None or 0 in view.shape for view in views):
            norms = [scaled_norm(v, xp, folded, axis=reduced, keepdims=True) for v in wide]
        else:
            found = (_in_order(np.asarray(v), order, units, reduced, stacked) for v in views)
            norms = [backend.scalar(each, kind, p) for each in found]
    large, given = norms
    most, scale, least, one = (backend.scalar(v, kind, p) for v in (bound, scale, SMALLEST, 1.0))
    factor = limit(large, given, most, scale, least, one, xp)
    if COMPUTE[backend.dtype(g)] == narrow:
        result = backend.cast(y, narrow) * backend.cast(factor, narrow)
    else:
        # Clipped first, as the cast of a wider gradient might overflow.
        result = backend.cast(wide[1] * factor, narrow)
    return backend.array(backend.as_complex(result) if stored in COMPLEX else result)


def _in_order(
    x: np.ndarray[Any, Any],
    order: tuple[int, ...],
    units: str,
    reduced: tuple[int, ...],
    stacked: int,
) -> np.ndarray[Any, Any]:
    """Return norms along axes, from sums in an order that every engine can follow."""
    end = stacked + len(order)
    axes = (*range(stacked), *(k + stacked for k in order), *range(end, x.ndim))
    shape = *parts_of(x.shape[stacked:end], order, units), *(x.shape[end:] or (1,))
    rows = x.transpose(axes).reshape(-1, *shape)
    kept = tuple(1 if k in reduced else n for k, n in enumerate(x.shape))
    # NumPy adds sequentially along what is not contiguous.
    return norms_of_units(np.ascontiguousarray(rows)).reshape(kept)


def _reduced(units: str, ndim: int, pairs: bool) -> tuple[int, ...]:
    """Return the axes of a norm; a complex number is a pair along an additional one."""
    every = range(ndim + pairs)
    if units == "tensor" or ndim < 2:
        return tuple(every)
    kept = 0 if units == "first" else ndim - 1
    return tuple(k for k in every if k != kept)
