"""Gradients of a loss, by whichever library can differentiate it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._arrays import COMPLEX, backend_of
from ._trees import Structure, flatten
from ._typing import Array, Tree


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
