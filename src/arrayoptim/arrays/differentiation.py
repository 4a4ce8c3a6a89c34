"""Gradients of a loss, by the automatic differentiation of the arrays' own library."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

import numpy as np

from .._typing import Array, Scalar, Tree
from .calls import mismatch
from .libraries import COMPLEX, backend_of
from .trees import Structure, flatten, named

Loss = Callable[[Sequence[Array]], Any]
"""A loss as a function of the leaves of its parameters."""

_SCALAR: WeakSet[Any] = WeakSet()
"""Losses that have given a scalar, and need not be asked again whether they give a pair."""


def gradients_of(loss: Any, params: Tree) -> tuple[list[Array], list[Array], Structure]:
    """Return the gradients of a loss alone; see `value_and_gradients`."""
    _, gradients, leaves, structure = value_and_gradients(loss, params)
    return gradients, leaves, structure


def value_and_gradients(
    loss: Any, params: Tree
) -> tuple[Scalar, list[Array], list[Array], Structure]:
    """Evaluate a loss and differentiate it.

    Parameters
    ----------
    loss : torch.Tensor or callable
        A torch scalar, or a function of the parameters that gives a scalar of torch, JAX,
        TensorFlow or the ``autograd`` package, or the pair ``(value, gradients)``, which serves
        every library. Of torch and TensorFlow it may also be a function of nothing that reads the
        very parameters.
    params : tree of arrays
        The parameters.

    Returns
    -------
    value : scalar
        What the loss gave.
    gradients, params : list of array
        In the order of the parameters; None for None.
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
        return loss, _torch_gradients(loss, leaves, structure), leaves, structure
    names = {backend_of(x).name for x in leaves if x is not None}
    differentiate = _BY_LIBRARY.get(names.pop(), _pair) if len(names) == 1 else _pair

    def of_leaves(xs: Sequence[Array]) -> Any:
        params = structure.build(xs)
        try:
            return loss(params)
        except TypeError:
            # Not sooner: inspecting a signature takes longer than a small step.
            fault = mismatch(loss, params)
            if fault and differentiate in (_torch, _tensorflow) and not mismatch(loss):
                return loss()
            if fault:
                raise TypeError(_takes_params(loss, fault)) from None
            raise

    value, gradients = differentiate(loss, of_leaves, leaves, structure)
    return value, gradients, leaves, structure


def _by_hand(given: tuple[Any, ...], structure: Structure) -> Any:
    """Return the value and the gradients that the loss gave itself."""
    if len(given) != 2:
        raise ValueError(f"the loss gave {len(given)} things, wanted the pair (value, gradients)")
    gradients, found = flatten(given[1], "gradients")
    if found.paths != structure.paths:
        raise ValueError(
            f"the loss gave gradients for {list(found.paths)}, wanted {list(structure.paths)}"
        )
    return given[0], gradients


def _require_all(used: Sequence[bool], structure: Structure) -> None:
    """Name the first parameter that the loss does not depend on, if there is one."""
    for path, depends in zip(structure.paths, used, strict=True):
        if not depends:
            raise ValueError(
                f"the loss does not depend on {named(path)}; leave it out of the parameters, "
                "or give apply its gradient as None"
            )


def _pair(loss: Any, of_leaves: Loss, leaves: list[Array], structure: Structure) -> Any:
    value = of_leaves(leaves)
    if isinstance(value, tuple):
        return _by_hand(value, structure)
    library = next((backend_of(x).name for x in leaves if x is not None), "no")
    raise TypeError(
        f"{library} arrays have no automatic differentiation; let the loss return "
        "(value, gradients)"
    )


def _takes_params(loss: Any, fault: str) -> str:
    return (
        f"the loss is given the parameters, one tree, and {loss!r} does not take them ({fault}); "
        "write lambda params: ..."
    )


def _no_scalar(value: Any) -> TypeError:
    if isinstance(value, float | int):
        return TypeError(
            f"the loss turned its value into a {type(value).__name__}, through which nothing can "
            "be differentiated; return the scalar itself, or (value, gradients)"
        )
    return TypeError(f"the loss gave {value!r}, wanted a scalar array, or (value, gradients)")


# ---- torch


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
        if p is not None and not getattr(p, "requires_grad", False):
            raise ValueError(f"{named(path)} does not require a gradient")
    found = iter(torch.autograd.grad(loss, _present(leaves), allow_unused=True))
    gradients = [None if p is None else next(found) for p in leaves]
    _require_all(
        [p is None or g is not None for p, g in zip(leaves, gradients, strict=True)], structure
    )
    return gradients


def _torch(loss: Any, of_leaves: Loss, leaves: list[Array], structure: Structure) -> Any:
    import torch

    tracked = [
        x if x is None or x.requires_grad else x.detach().clone().requires_grad_() for x in leaves
    ]
    with torch.enable_grad():
        value = of_leaves(tracked)
    if isinstance(value, tuple):
        return _by_hand(value, structure)
    if not torch.is_tensor(value):
        raise _no_scalar(value)
    return value.detach(), _torch_gradients(value, tracked, structure)


# ---- JAX


def _jax(loss: Any, of_leaves: Loss, leaves: list[Array], structure: Structure) -> Any:
    import jax

    if not _known_scalar(loss):
        try:
            pair = isinstance(jax.eval_shape(of_leaves, leaves), tuple)
        except jax.errors.JAXTypeError:
            # A loss that returns its own gradients may compute them on the host, untraced.
            given = of_leaves(leaves)
            if isinstance(given, tuple):
                return _by_hand(given, structure)
            if hasattr(given, "dtype"):
                raise
            raise _no_scalar(given) from None
        if pair:
            return _by_hand(of_leaves(leaves), structure)
        _remember_scalar(loss)
    value, found = jax.value_and_grad(of_leaves)(leaves)
    gradients = [None if g is None else _descent(g) for g in found]
    if _may_be_unused(gradients):
        _require_all(_jax_dependence(of_leaves, leaves), structure)
    return value, gradients


def _may_be_unused(gradients: Sequence[Array | None]) -> bool:
    """Whether JAX returned only zeros, as it does for a parameter that the loss does not use.

    While a step is traced there are no values to tell by.
    """
    import jax

    present = _present(gradients)
    if any(backend_of(g).traced(g) for g in present):
        return True
    return not all(jax.device_get([backend_of(g).xp.any(g != 0) for g in present]))


def _jax_dependence(of_leaves: Loss, leaves: list[Array]) -> list[bool]:
    """Return for each parameter whether the traced loss depends on it."""
    import jax
    from jax.interpreters.partial_eval import dce_jaxpr

    def change(direction: list[Array]) -> Array:
        return jax.jvp(of_leaves, (leaves,), (direction,))[1]

    program = jax.make_jaxpr(change)(leaves)
    used = iter(dce_jaxpr(program.jaxpr, [True])[1])
    return [x is None or next(used) for x in leaves]


# ---- TensorFlow


def _tensorflow(loss: Any, of_leaves: Loss, leaves: list[Array], structure: Structure) -> Any:
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(_present(leaves))
        value = of_leaves(leaves)
    if isinstance(value, tuple):
        return _by_hand(value, structure)
    if not tf.is_tensor(value) or value.shape.rank not in (0, None):
        raise _no_scalar(value)
    found = iter(tape.gradient(value, _present(leaves)))
    gradients = [None if p is None else next(found) for p in leaves]
    _require_all(
        [p is None or g is not None for p, g in zip(leaves, gradients, strict=True)], structure
    )
    # For an embedding the tape returns only the rows that were looked up.
    return value, [None if g is None else tf.convert_to_tensor(g) for g in gradients]


# ---- MLX


def _mlx(loss: Any, of_leaves: Loss, leaves: list[Array], structure: Structure) -> Any:
    import mlx.core as mx

    places = [i for i, x in enumerate(leaves) if x is not None]

    def of_present(xs: Sequence[Array]) -> Any:
        given = dict(zip(places, xs, strict=True))
        return of_leaves([given.get(i) for i in range(len(leaves))])

    if not _known_scalar(loss):
        first = of_leaves(leaves)
        if isinstance(first, tuple):
            return _by_hand(first, structure)
        if not isinstance(first, mx.array) or first.ndim:
            raise _no_scalar(first)
        _remember_scalar(loss)
    value, found = mx.value_and_grad(of_present)(_present(leaves))
    rows = iter(found)
    return value, [None if x is None else next(rows) for x in leaves]


# ---- autograd


def _numpy(loss: Any, of_leaves: Loss, leaves: list[Array], structure: Structure) -> Any:
    first: Any = None
    if not _known_scalar(loss):
        # Not by tracing: gradients written by hand need not know autograd's arrays.
        first = of_leaves(leaves)
        if isinstance(first, tuple):
            return _by_hand(first, structure)
    try:
        import autograd
    except ModuleNotFoundError:
        raise TypeError(
            "differentiating a NumPy loss needs the autograd package (pip install autograd), or "
            "let the loss return (value, gradients)"
        ) from None
    places = [i for i, x in enumerate(leaves) if x is not None]

    def of_present(xs: Sequence[Array]) -> Any:
        given = dict(zip(places, xs, strict=True))
        return of_leaves([given.get(i) for i in range(len(leaves))])

    with warnings.catch_warnings():
        # It is an error below, with the parameter's name.
        warnings.filterwarnings("ignore", "Output seems independent")
        present = _present(leaves)
        try:
            value, found = autograd.value_and_grad(of_present)(present)
        except (AttributeError, TypeError):
            # A number of NumPy has a type; autograd cannot look into what else a loss makes of it.
            if _known_scalar(loss) or hasattr(first, "dtype"):
                raise
            raise _no_scalar(first) from None
        _remember_scalar(loss)
        used = [True] * len(leaves)
        for place, g in zip(places, found, strict=True):
            used[place] = bool(np.any(g)) or _autograd_reaches(of_leaves, leaves, place)
    _require_all(used, structure)
    rows = iter(found)
    return value, [None if x is None else _descent(next(rows)) for x in leaves]


def _autograd_reaches(of_leaves: Loss, leaves: list[Array], place: int) -> bool:
    """Whether the loss depends on a parameter: autograd returns zeros where it does not."""
    from autograd.core import VJPNode
    from autograd.tracer import trace

    def of_one(x: Array) -> Any:
        return of_leaves([*leaves[:place], x, *leaves[place + 1 :]])

    return trace(VJPNode.new_root(), of_one, leaves[place])[1] is not None


# ---- what they share

_BY_LIBRARY = {
    "jax": _jax,
    "mlx": _mlx,
    "numpy": _numpy,
    "tensorflow": _tensorflow,
    "torch": _torch,
}


def _present(arrays: Sequence[Array | None]) -> list[Array]:
    return [x for x in arrays if x is not None]


def _known_scalar(loss: Any) -> bool:
    try:
        return loss in _SCALAR
    except TypeError:
        return False


def _remember_scalar(loss: Any) -> None:
    # A bound method is a new object each time, and is soon gone; some callables take no reference.
    with contextlib.suppress(TypeError):
        _SCALAR.add(loss)


def _descent(g: Array) -> Array:
    # JAX and autograd give the conjugate of the direction that torch gives and rules step along.
    return backend_of(g).xp.conj(g) if backend_of(g).dtype(g) in COMPLEX else g
