"""Norms and clipping of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any

import numpy as np

from ._typing import Array, Scalar
from .arrays.libraries import COMPLEX, COMPUTE, Backend, backend_of, is_array
from .numerics.sums import sum_of_squares, sum_of_values, sums_of_units
from .rules.stages import clip

_TINY = 2.0**-900


@dataclass(frozen=True, eq=False)
class Pending:
    """Norms that are not yet on the host, or the clip factor derived from them.

    Attributes
    ----------
    norm : object
        The location of the global norm on the device.
    bound : float
        The bound on it; 0 means no bound.
    read : callable, optional
        Waits for the device and returns the norm.
    norms : object, optional
        The location of the norm of each gradient.
    tensor_bound : float or None
        The bound on each of them once the global norm is within its own; None if they are not used.
    read_each : callable, optional
        Waits for the device and returns the norm of each gradient; None for a gradient that is
        None.
    """

    norm: Any
    bound: float = 0.0
    read: Callable[[], float] | None = None
    norms: Any = None
    tensor_bound: float | None = None
    read_each: Callable[[], list[float | None]] | None = None


def clip_norm(g: Array, c: Scalar, n: Scalar) -> Array:
    """Scale a gradient down if a norm exceeds its bound.

    Parameters
    ----------
    g : array
        The gradient.
    c : float
        The bound; 0 or less for none.
    n : float or 0-d array
        The global norm of all gradients.

    Returns
    -------
    array
        ``g * c / n`` where ``n >= c > 0``, otherwise ``g``.
    """
    return g * backend_of(g).scalar(clip_factor(n, c), backend_of(g).dtype(g), g)


def clip_gradient(g: Array, like: Array, numbers: Mapping[str, Scalar]) -> Array:
    """Scale a gradient and clip its entries; NaN propagates.

    The real and imaginary parts of a complex gradient are clipped separately.

    Parameters
    ----------
    g : array
        The gradient.
    like : array
        An array with the wanted dtype.
    numbers : mapping of str to scalar
        ``scale`` and ``bound``, see `arrayoptim.rules.stages.clip`; without them the gradient is
        unchanged.
    """
    backend = backend_of(g)
    dtype = backend.dtype(like)
    with backend.guard(g):
        if "scale" in numbers:
            parts = _real(g)
            kind = backend.dtype(parts)
            scale, bound = (backend.scalar(numbers[k], kind, g) for k in ("scale", "bound"))
            parts = clip(parts, scale, bound, backend.xp)
            g = backend.as_complex(parts) if dtype in COMPLEX else parts
        return backend.array(backend.cast(g, dtype))


def clip_factor(norm: Scalar, bound: Scalar) -> Scalar:
    """Return the factor that brings gradients of that norm within a bound; 0 means no bound."""
    if type(norm) is not float:
        if isinstance(norm, Pending):
            return replace(norm, bound=bound)
        if is_array(norm) and backend_of(norm).compiles:
            # A division by 0 in the unselected branch would make the derivative NaN.
            xp = backend_of(norm).xp
            over = (bound > 0) & (norm >= bound) & (norm > 0)
            return xp.where(over, bound / xp.where(over, norm, 1.0), 1.0)
        if isinstance(norm, np.ndarray) and norm.ndim:
            over = (bound > 0) & (norm >= bound)
            return np.where(over, bound / np.where(over, norm, 1.0), 1.0)
        norm = float(norm)
    return bound / norm if bound > 0 and norm >= bound else 1.0


def global_norm(
    gradients: Sequence[Array | None], squares: Mapping[int, float] | None = None
) -> Scalar:
    """Return the Euclidean norm over all entries of all gradients.

    Parameters
    ----------
    gradients : sequence of array or None
        The gradients; None counts as zero.
    squares : mapping of int to float, optional
        Known sums of squares, by the gradient's index.

    Returns
    -------
    float or 0-d array
        A float, or for JAX arrays an array that stays on the device. It is summed in double
        precision where the library supports it, and does not overflow for finite gradients.
    """
    known, total = squares or {}, 0.0
    if len(known) == len(gradients):
        # A plain loop, because the built-in sum is compensated from Python 3.12 on.
        for i in range(len(known)):
            total += known[i]
        if _TINY < total < math.inf:
            return math.sqrt(total)
    given = [g for g in gradients if g is not None]
    compiled = {backend_of(g) for g in given if backend_of(g).compiles}
    if compiled and len(compiled) == len({backend_of(g) for g in given}):
        return _compiled_norm(compiled.pop())(given)
    total = 0.0
    for i, g in enumerate(gradients):
        if g is not None:
            total += known[i] if i in known else square_sum(g)
    if _TINY < total < math.inf:
        return math.sqrt(total)
    if not math.isfinite(total) and any(not _all_finite(g) for g in given):
        return math.sqrt(total)
    # Squares of float64 entries above 1e154 overflow, those below 1e-154 underflow: rescale.
    scale = 2.0 ** (600 if total <= _TINY else -600)
    total = 0.0
    for g in given:
        total += square_sum(g, scale)
    return math.sqrt(total) / scale


def norms_of_models(
    gradients: Sequence[Array | None], squares: Mapping[int, float] | None, models: int
) -> Any:
    """Return the gradient norm of each model, equal to its own `global_norm`.

    Parameters
    ----------
    gradients : sequence of array or None
        The gradients; those of one array are consecutive, model by model.
    squares : mapping of int to float, optional
        Known sums of squares, by the gradient's index.
    models : int
        Number of models.

    Returns
    -------
    numpy.ndarray of float64
        The norms.
    """
    known = squares or {}
    if len(known) == len(gradients):
        total = np.zeros(models)
        sums = np.fromiter(map(known.__getitem__, range(len(known))), np.float64, len(known))
        for row in sums.reshape(-1, models):
            total = total + row
        if total.min() > _TINY and total.max() < math.inf:
            return np.sqrt(total)
    found = []
    for m in range(models):
        own = {k // models: square for k, square in known.items() if k % models == m}
        found.append(float(global_norm(gradients[m::models], own)))
    return np.array(found)


def tensor_norms(
    gradients: Sequence[Array | None], squares: Mapping[int, float] | None = None
) -> list[Scalar | None]:
    """Return the Euclidean norm of each gradient.

    Parameters
    ----------
    gradients : sequence of array or None
        The gradients.
    squares : mapping of int to float, optional
        Known sums of squares, by the gradient's index.

    Returns
    -------
    list of float or 0-d array or None
        As from `global_norm`; None for None.
    """
    known = squares or {}

    def norm(i: int, g: Array | None) -> Scalar | None:
        if g is None:
            return None
        return global_norm([g], {0: known[i]} if i in known else None)

    return [norm(i, g) for i, g in enumerate(gradients)]


def stays_on_device(x: Array) -> bool:
    """Whether the host must wait for a device to read an element of an array."""
    backend = backend_of(x)
    return not backend.compiles and backend.valued(x) and str(backend.device(x)) != "cpu"


def unread_norm(x: Array) -> Scalar:
    """Return the Euclidean norm of one array, as a 0-d array if the host would have to wait."""
    if not stays_on_device(x):
        return global_norm([x])
    backend = backend_of(x)
    with backend.guard(x):
        real = _real(x)
        return scaled_norm(backend.cast(real, backend.widest(real)), backend.xp)


@cache
def _compiled_norm(backend: Backend) -> Callable[[list[Array]], Array]:
    xp = backend.xp

    def norm(gradients: list[Array]) -> Array:
        wide = [widened(_real(g), backend) for g in gradients]
        return scaled_norm(xp.stack([scaled_norm(x, xp) for x in wide]), xp)

    return backend.compile(norm)


def scaled_norm(x: Array, xp: Any, add: Callable[..., Array] | None = None, **axes: Any) -> Array:
    """Return the Euclidean norm of an array, or of its parts along axes, in its own precision.

    The library's sum adds up the squares, or `add`, a function like it.
    """
    # In float32 the square of 1e30 overflows, so divide by the largest magnitude first.
    if 0 in x.shape:
        return xp.zeros((), dtype=x.dtype)
    top = xp.max(xp.abs(x), **axes)
    usable = (top > 0) & xp.isfinite(top)
    # Neither the norm nor its derivative depends on the unit, so treat it as a constant.
    unit = backend_of(x).fixed(xp.where(usable, top, xp.ones_like(top)))
    norm = unit * xp.sqrt((add or xp.sum)(xp.square(x / unit), **axes))
    # The norm of finite entries must stay finite: at most the largest number of the dtype.
    # An array, as torch would copy a Python number to the GPU, and wait for it.
    most = xp.ones_like(norm) * float(xp.finfo(x.dtype).max)
    return xp.where(xp.isfinite(top), xp.minimum(norm, most), top)


def norms_of_units(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the Euclidean norms of units, from sums of squares in the order of `sums_of_units`.

    Parameters
    ----------
    array : numpy.ndarray of float64
        As for `arrayoptim.numerics.sums.sums_of_units`.
    """

    def root(scale: float) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = np.sqrt(sums_of_units(np.square(array * scale))) / scale
        return found

    with np.errstate(all="ignore"):
        total = sums_of_units(np.square(array))
        low, high = total <= _TINY, total == math.inf
        norms: np.ndarray[Any, Any] = np.sqrt(total)
        # Squares of float64 may underflow or overflow.
        norms = np.where(low, root(2.0**600), norms) if low.any() else norms
        return np.where(high, root(2.0**-600), norms) if high.any() else norms


def folded(x: Array, axis: Sequence[int], keepdims: bool = True) -> Array:
    """Return sums along axes, bit-identical in every library.

    While there is more than one number, the second half is added to the first; an odd one out is
    added at the end.

    Parameters
    ----------
    x : array
        Real numbers, at least one.
    axis : sequence of int
        The axes.
    keepdims : bool
        Whether to keep the axes, with length 1.
    """
    xp, shape = backend_of(x).xp, tuple(x.shape)
    kept = [k for k in range(len(shape)) if k not in axis]
    count, rest = prod(shape[k] for k in axis), tuple(shape[k] for k in kept)
    rows = xp.reshape(xp.permute_dims(x, (*axis, *kept)), (count, *rest))
    odd = []
    while count > 1:
        if count % 2:
            odd.append(rows[count - 1, ...])
        count //= 2
        rows = rows[:count, ...] + rows[count : 2 * count, ...]
    total = rows[0, ...]
    for row in odd:
        total = total + row
    return xp.reshape(total, tuple(1 if k in axis else n for k, n in enumerate(shape)))


def widened(x: Array, backend: Backend) -> Array:
    """Return an array cast to the dtype in which its norm is summed."""
    return backend.cast(x, backend.sums or COMPUTE[backend.dtype(x)])


def _real(g: Array) -> Array:
    backend = backend_of(g)
    return backend.as_real(g) if backend.dtype(g) in COMPLEX else g


def square_sum(g: Array, scale: float = 1.0) -> float:
    """Return the sum of squares of all entries, each first multiplied by a scale.

    It is 1 for an array with a shape but no values, so nothing over- or underflows.
    """
    backend = backend_of(g)
    if not backend.valued(g):
        return 1.0
    if backend.compiles:
        return (float(_compiled_norm(backend)([g])) * scale) ** 2
    with backend.guard(g):
        g = _real(g)
        view = backend.host_view(g)
        if view is not None:
            return sum_of_squares(view if scale == 1.0 else view.astype(np.float64) * scale)
        wide = backend.widest(g)
        g = backend.cast(g, wide)
        if wide == "float32":
            # Its squares may overflow there.
            return (float(scaled_norm(g, backend.xp)) * scale) ** 2
        return float(backend.xp.sum(backend.xp.square(g if scale == 1.0 else g * scale)))


def value_sum(x: Array) -> float:
    """Return the sum of all entries of a real array that is not traced.

    It is 1 for an array with a shape but no values.
    """
    backend = backend_of(x)
    if not backend.valued(x):
        return 1.0
    with backend.guard(x):
        view = backend.host_view(x)
        if view is not None:
            return sum_of_values(view)
        return float(backend.xp.sum(backend.cast(x, backend.widest(x))))


def _all_finite(g: Array) -> bool:
    backend = backend_of(g)
    with backend.guard(g):
        return bool(backend.xp.all(backend.xp.isfinite(_real(g))))


def count_nonfinite(gradients: Sequence[Array | None]) -> int:
    """Count infinite and NaN entries; the two parts of a complex entry count separately."""
    total = 0
    for g in gradients:
        if g is not None and backend_of(g).valued(g):
            backend, xp = backend_of(g), backend_of(g).xp
            with backend.guard(g):
                x = _real(g)
                # For a 0-d array NumPy returns a scalar, which astype of NumPy 2.0 rejects.
                finite = xp.astype(xp.asarray(xp.isfinite(x)), xp.int32)
                total += prod(x.shape) - int(xp.sum(finite))
    return total
