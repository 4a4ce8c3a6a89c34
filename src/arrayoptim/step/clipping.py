"""Clipping: norms of the gradients, and the clipping factors that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._typing import Array, Namespace, Scalar
from ..arrays.libraries import COMPUTE, backend_of
from ..arrays.rows import Rows, stored
from ..config.per_model import several
from ..gradients import (
    Pending,
    clip_factor,
    count_nonfinite,
    global_norm,
    norms_of_models,
    square_sum,
    tensor_norms,
)
from .sharding import Spread, norms_of

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(slots=True, eq=False)
class Measured:
    """Norms of the gradients of a step, as far as a stage needs them.

    Attributes
    ----------
    norm : scalar, array or None
        Global Euclidean norm, before unscaling; an array with one norm per model.
    norms : list of scalar or None, optional
        The norm of each gradient; None for a gradient that is None. If only the device knows them,
        `norm` tells where they are.
    unscale : float
        Factor that removes the loss scale from the gradients and their norms.
    factors : list of float, optional
        A further factor for each gradient that does not apply to the norms; see `fitted`.
        nonfinite : int or None
            Number of infinite or NaN entries; None if only the device knows it.
    """

    norm: Scalar | None = None
    norms: Sequence[Scalar | None] | None = None
    unscale: float = 1.0
    nonfinite: int | None = None
    factors: Sequence[float] | None = None

    @property
    def true_norm(self) -> Scalar | None:
        """The global norm without the loss scale."""
        return self.norm if self.norm is None or self.unscale == 1.0 else self.norm * self.unscale


def measured(
    gradients: Sequence[Array | None],
    squares: Mapping[int, float] | None,
    each: bool,
    unscale: float = 1.0,
    norm: Scalar | None = None,
    models: int | None = None,
) -> Measured:
    """Compute the norms of gradients.

    Parameters
    ----------
    gradients : sequence of array or None
        The gradients.
    squares : dict of int to float or None
        Sums of squares that are already known, by the gradient's index.
    each : bool
        Whether the norm of each gradient is needed too.
    unscale : float
        Factor that removes the loss scale.
    norm : scalar, optional
        The global norm, if already known.
    models : int, optional
        Number of models, each of which has its own global norm.
    """
    if each:
        squares = {**_squares(gradients, squares or {}), **(squares or {})}
    norms = tensor_norms(gradients, squares) if each else None
    if models is not None:
        found = norms_of_models(gradients, squares, models)
        finite = bool(np.isfinite(found).all())
        return Measured(found, norms, unscale, 0 if finite else count_nonfinite(gradients))
    if norm is None:
        norm = global_norm(gradients, squares)
    if not isinstance(norm, float):
        return Measured(norm, norms, unscale)
    nonfinite = 0 if math.isfinite(norm) else count_nonfinite(gradients)
    return Measured(norm, norms, unscale, nonfinite)


def measured_in_parts(
    gradients: Sequence[Array | None],
    squares: Mapping[int, float],
    spread: Spread,
    each: bool,
    unscale: float = 1.0,
    norm: Scalar | None = None,
) -> Measured:
    """Compute the norms of gradients that are sharded over processes; see `measured`."""
    norms, together = norms_together(gradients, squares, spread)
    whole = together if norm is None else float(norm)
    nonfinite = 0 if math.isfinite(whole) else count_nonfinite(gradients)
    return Measured(whole, norms if each else None, unscale, nonfinite)


def norms_together(
    gradients: Sequence[Array | None], squares: Mapping[int, float], spread: Spread
) -> tuple[list[Scalar | None], float]:
    """Return the norm of each gradient and the global norm, of gradients sharded over processes."""
    known = {**_squares(gradients, squares), **squares}
    pairs = [(i, g) for i, g in enumerate(gradients) if g is not None]
    own = {i: float(global_norm([g], {0: known[i]})) for i, g in pairs}
    whole = norms_of(spread, own)
    return [whole.get(i) for i in range(len(gradients))], math.hypot(*whole.values())


def fitted(
    gradients: Sequence[Array | None], params: Sequence[Array | None], size: Measured
) -> tuple[Sequence[Array | None], Measured]:
    """Return gradients that do not overflow the compute dtype before they are clipped.

    A float64 gradient of a parameter with fewer bits may overflow: it is scaled down by a power
    of two, which is folded back into the step's scale.
    """
    norm: Any = size.norm
    if type(norm) is float and norm * size.unscale <= _LARGEST:
        return gradients, size
    if several(norm):
        if float(norm.max()) * size.unscale <= _LARGEST:
            return gradients, size
        norm = float(np.max(norm, where=np.isfinite(norm), initial=0.0))
    if not isinstance(norm, float) or not _LARGEST < norm * size.unscale < math.inf:
        return gradients, size
    new, factors = list(gradients), [1.0] * len(gradients)
    for i, (g, p) in enumerate(zip(stored(gradients), params, strict=True)):
        if g is None or p is None or COMPUTE[backend_of(p).dtype(p)] != "float32":
            continue
        own = global_norm([g])
        if isinstance(own, float) and math.inf > own > _LARGEST:
            backend = backend_of(g)
            factors[i] = math.ldexp(1.0, math.frexp(own)[1] - 1)
            with backend.guard(g):
                small = backend.array(g * backend.scalar(1.0 / factors[i], "float64", g))
            whole = gradients[i]
            new[i] = Rows(whole.indices, small, whole.shape) if type(whole) is Rows else small
    return new, replace(size, factors=factors)


def _squares(gradients: Sequence[Array | None], known: Mapping[int, float]) -> dict[int, float]:
    """Return all sums of squares, computing on the host those that are unknown."""
    return {
        i: square_sum(g)
        for i, g in enumerate(gradients)
        if g is not None and i not in known and not backend_of(g).compiles
    }


def clipping(
    h: Mapping[str, Any], size: Measured, xp: Namespace
) -> dict[str, Scalar | list[Scalar]]:
    """Return the scalars of the clipping stage; empty if nothing is to be clipped.

    The order is: unscale, clip by the global norm, by each gradient's norm, by the norm of each
    unit, by value. Each norm is taken of the result of the preceding stages.

    Parameters
    ----------
    h : mapping of str to object
        The hyperparameters of a group of parameters.
    size : Measured
        The size of the gradients.
    xp : module
        Array functions: `numpy`, or those of the tracing compiler.

    Returns
    -------
    dict
        ``scale`` and ``bound``, and one of ``last_units``, ``first_units`` and ``tensor_units`` for
        adaptive clipping. The scale is a list with one factor per parameter if each is clipped by
        its own norm.
    """
    values: dict[str, Scalar | list[Scalar]] = {}
    if h["agc"] is not None:
        values[f"{h['agc_units']}_units"] = _bound(h["agc"], xp)
    each, value = h["clipnorm_per_tensor"], h["clipvalue"]
    plain = size.unscale == 1.0 and size.factors is None
    if h["clipnorm"] is None and value is None and each is None and plain:
        return values
    scale: Any = _scale(h["clipnorm"], size)
    if each is None:
        scales = scale
    elif isinstance(size.norm, Pending):
        # The device computes with the same formulas, tensor by tensor.
        pending = scale if isinstance(scale, Pending) else size.norm
        scales = replace(pending, tensor_bound=each)
    else:
        scales = _scales(scale, each, size)
    if size.factors is not None:
        row = enumerate(size.factors)
        scales = [min(_at(scales, i) * f, _LARGEST) for i, f in row]
    values["scale"] = scales
    values["bound"] = math.inf if value is None else _bound(value, xp)
    return values


def _bound(value: Any, xp: Namespace) -> Any:
    """Return a bound, infinite in the place of 0."""
    if several(value):
        return np.where(value > 0.0, value, math.inf)
    if xp is np:
        return value if value > 0 else math.inf
    return xp.where(value > 0, value, math.inf)


def _scale(bound: Scalar | None, size: Measured) -> Scalar:
    if bound is None:
        return size.unscale
    factor = clip_factor(size.true_norm, bound)
    # The host cannot multiply a factor that only the device knows.
    return factor if size.unscale == 1.0 else factor * size.unscale


def _scales(scale: Scalar, bound: Scalar, size: Measured) -> list[Scalar]:
    assert size.norms is not None
    return [
        s if norm is None else s * clip_factor(norm * s, _at(bound, i))
        for i, norm in enumerate(size.norms)
        for s in [_at(scale, i)]
    ]


def _at(value: Any, i: int) -> Any:
    """Return the value for gradient `i` from a scalar, one value per model, or one per gradient."""
    if isinstance(value, list) or several(value):
        return value[i % len(value)]
    return value
