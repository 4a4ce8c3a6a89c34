"""Gradients: their norm and how it is clipped, and how they come from a loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from ._arrays import COMPLEX, COMPUTE, Backend, backend_of, is_array
from ._norms import sum_of_squares, sum_of_values
from ._stages import clip
from ._trees import Structure, flatten
from ._typing import Array, Scalar, Tree

_TINY = 2.0**-900


@dataclass(frozen=True, eq=False)
class Pending:
    """A norm that only a device knows, or the clip factor that follows from it.

    Attributes
    ----------
    norm : object
        Where on the device the norm will be.
    bound : float
        Its bound; 0 is no bound.
    """

    norm: Any
    bound: float = 0.0


def clip_norm(g: Array, c: Scalar, n: Scalar) -> Array:
    """Scale a gradient down where a norm exceeds its bound.

    Parameters
    ----------
    g : array
        The gradient.
    c : float
        The bound; 0 or less for none.
    n : float or 0-d array
        The norm of all gradients together.

    Returns
    -------
    array
        ``g * c / n`` where ``n >= c > 0``, otherwise ``g``.
    """
    return g * backend_of(g).scalar(clip_factor(n, c), backend_of(g).dtype(g), g)


def clip_value(g: Array, c: Scalar) -> Array:
    """Limit the entries of a gradient to ``[-c, c]``; NaN stays NaN.

    The real and imaginary parts of a complex gradient are limited one by one.
    """
    backend = backend_of(g)
    dtype = backend.dtype(g)
    with backend.guard():
        parts = _real(g)
        one, bound = (backend.scalar(value, backend.dtype(parts), g) for value in (1.0, c))
        clipped = clip(parts, one, bound, backend.xp)
        return backend.array(backend.as_complex(clipped) if dtype in COMPLEX else clipped)


def clip_factor(norm: Scalar, bound: Scalar) -> Scalar:
    """Give what gradients of that norm are multiplied with to respect a bound; 0 is no bound."""
    if isinstance(norm, Pending):
        return replace(norm, bound=float(bound))
    if is_array(norm) and backend_of(norm).compiles:
        xp = backend_of(norm).xp
        return xp.where((bound > 0) & (norm >= bound), bound / norm, 1.0)
    norm = float(norm)
    return bound / norm if bound > 0 and norm >= bound else 1.0


def global_norm(
    gradients: Sequence[Array | None], squares: Mapping[int, float] | None = None
) -> Scalar:
    """Give the Euclidean norm over all entries of all gradients.

    Parameters
    ----------
    gradients : sequence of array or None
        The gradients; None counts as zero.
    squares : mapping of int to float, optional
        Sums of squares that are known already, by the gradient's place.

    Returns
    -------
    float or 0-d array
        A float, or an array that stays on the device for JAX arrays. It is summed in double
        precision where the library has it, and overflows for no finite gradients.
    """
    given = [g for g in gradients if g is not None]
    compiled = {backend_of(g) for g in given if backend_of(g).compiles}
    if compiled and len(compiled) == len({backend_of(g) for g in given}):
        return _compiled_norm(compiled.pop())(given)
    known = squares or {}
    total = 0.0
    for i, g in enumerate(gradients):
        if g is not None:
            # One after another: the built-in sum compensates from Python 3.12 on.
            total += known[i] if i in known else square_sum(g)
    if _TINY < total < math.inf:
        return math.sqrt(total)
    if not math.isfinite(total) and any(not _all_finite(g) for g in given):
        return math.sqrt(total)
    # Squares of float64 entries above 1e154 overflow, those below 1e-154 vanish: move them nearer.
    scale = 2.0 ** (600 if total <= _TINY else -600)
    total = 0.0
    for g in given:
        total += square_sum(g, scale)
    return math.sqrt(total) / scale


@cache
def _compiled_norm(backend: Backend) -> Callable[[list[Array]], Array]:
    xp = backend.xp

    def norm(gradients: list[Array]) -> Array:
        wide = [widened(_real(g), backend) for g in gradients]
        return scaled_norm(xp.stack([scaled_norm(x, xp) for x in wide]), xp)

    return backend.compile(norm)


def scaled_norm(x: Array, xp: Any) -> Array:
    """Give the Euclidean norm of an array of a library that compiles, as a 0-d array."""
    # Without float64 the squares of 1e30 overflow, so the largest magnitude is divided out.
    if 0 in x.shape:
        return xp.zeros((), dtype=x.dtype)
    top = xp.max(xp.abs(x))
    usable = (top > 0) & xp.isfinite(top)
    unit = xp.where(usable, top, xp.ones_like(top))
    norm = unit * xp.sqrt(xp.sum(xp.square(x / unit)))
    # Finite entries have a finite norm, if need be the largest number there is.
    return xp.where(xp.isfinite(top), xp.minimum(norm, xp.finfo(x.dtype).max), top)


def widened(x: Array, backend: Backend) -> Array:
    """Give an array in the type in which its norm is summed."""
    return backend.cast(x, backend.sums or COMPUTE[backend.dtype(x)])


def _real(g: Array) -> Array:
    backend = backend_of(g)
    return backend.as_real(g) if backend.dtype(g) in COMPLEX else g


def square_sum(g: Array, scale: float = 1.0) -> float:
    """Give the sum of the squares of all entries, each multiplied with a scale."""
    backend = backend_of(g)
    if backend.compiles:
        return (float(_compiled_norm(backend)([g])) * scale) ** 2
    with backend.guard():
        g = _real(g)
        view = backend.host_view(g)
        if view is not None:
            return sum_of_squares(view if scale == 1.0 else view.astype(np.float64) * scale)
        g = backend.cast(g, "float64")
        return float(backend.xp.sum(backend.xp.square(g if scale == 1.0 else g * scale)))


def value_sum(x: Array) -> float:
    """Give the sum of all entries of a real array that is on no compiler's hands."""
    backend = backend_of(x)
    with backend.guard():
        view = backend.host_view(x)
        if view is not None:
            return sum_of_values(view)
        return float(backend.xp.sum(backend.cast(x, "float64")))


def _all_finite(g: Array) -> bool:
    backend = backend_of(g)
    return bool(backend.xp.all(backend.xp.isfinite(_real(g))))


def gradients_of(loss: Any, params: Tree) -> tuple[list[Array], list[Array], Structure]:
    """Differentiate a loss.

    Parameters
    ----------
    loss : torch.Tensor or callable
        A torch scalar, or a function of the parameters that gives a scalar of torch, JAX or the
        ``autograd`` package, or the pair ``(value, gradients)``, which serves every library.
    params : tree of arrays
        The parameters.

    Returns
    -------
    gradients, params : list of array
        In the order of the parameters.
    structure : Structure
        That of the parameters.

    Raises
    ------
    TypeError
        If the loss is neither, or the library has no automatic differentiation.
    ValueError
        If the loss does not depend on a parameter.
    """
    leaves, structure = flatten(params)
    if not callable(loss):
        return _torch_gradients(loss, leaves, structure), leaves, structure
    names = {backend_of(x).name for x in leaves if x is not None}
    if names == {"jax"}:
        found = _jax_gradients(loss, params)
    elif names == {"torch"}:
        found = _torch_callable(loss, leaves, structure)
    else:
        found = _value_and_gradients(loss, params, leaves, structure)
    if isinstance(found, list):
        return found, leaves, structure
    grads, other = flatten(found, "gradients")
    if other.paths != structure.paths:
        raise ValueError(
            f"the loss gave gradients for {list(other.paths)}, wanted {list(structure.paths)}"
        )
    return grads, leaves, structure


def _torch_gradients(loss: Any, leaves: list[Array], structure: Structure) -> list[Array]:
    if not hasattr(loss, "requires_grad"):
        raise TypeError(
            f"loss: found {type(loss).__qualname__}, wanted a torch scalar, or a function of the "
            "parameters that gives a scalar or the pair (value, gradients)"
        )
    if not loss.requires_grad:
        raise ValueError("loss does not depend on any tensor that requires a gradient")
    import torch

    for path, p in zip(structure.paths, leaves, strict=True):
        if not getattr(p, "requires_grad", False):
            raise ValueError(f"parameter {path!r} does not require a gradient")
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    for path, g in zip(structure.paths, found, strict=True):
        if g is None:
            raise ValueError(f"the loss does not depend on parameter {path!r}")
    return list(found)


def _torch_callable(loss: Callable[..., Any], leaves: list[Array], structure: Structure) -> Any:
    import torch

    tracked = [x if x.requires_grad else x.detach().clone().requires_grad_() for x in leaves]
    with torch.enable_grad():
        value = loss(structure.build(tracked))
    if isinstance(value, tuple):
        return value[1]
    return _torch_gradients(value, tracked, structure)


def _jax_gradients(loss: Callable[..., Any], params: Tree) -> Tree:
    import jax

    if isinstance(jax.eval_shape(loss, params), tuple):
        return loss(params)[1]
    return jax.tree_util.tree_map(_descent, jax.grad(loss)(params))


def _value_and_gradients(
    loss: Callable[..., Any], params: Tree, leaves: list[Array], structure: Structure
) -> Any:
    value = loss(params)
    if isinstance(value, tuple):
        return value[1]
    library = backend_of(leaves[0]).name
    if any(not isinstance(x, np.ndarray) for x in leaves):
        raise TypeError(
            f"{library} arrays have no automatic differentiation; let the loss return "
            "(value, gradients)"
        )
    try:
        import autograd
    except ModuleNotFoundError:
        raise TypeError(
            "differentiating a NumPy loss needs the autograd package (pip install autograd), or "
            "let the loss return (value, gradients)"
        ) from None
    found: list[Array] = autograd.grad(lambda xs: loss(structure.build(xs)))(leaves)
    return [_descent(g) for g in found]


def _descent(g: Array) -> Array:
    # JAX and autograd give the conjugate of the direction that torch gives and rules step along.
    return backend_of(g).xp.conj(g) if backend_of(g).dtype(g) in COMPLEX else g
