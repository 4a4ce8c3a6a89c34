"""Gradients of a loss, by the automatic differentiation of the arrays' library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..._typing import Array, Scalar, Tree
from ..calls import mismatch
from ..libraries import backend_of
from ..trees import Structure, flatten
from .autograd import by_autograd
from .jax import by_jax
from .losses import Loss, by_hand
from .mlx import by_mlx
from .tensorflow import by_tensorflow
from .torch import by_torch, torch_gradients


def gradients_of(loss: Any, params: Tree) -> tuple[list[Array], list[Array], Structure]:
    """Return only the gradients of a loss; see `value_and_gradients`."""
    _, gradients, leaves, structure = value_and_gradients(loss, params)
    return gradients, leaves, structure


def value_and_gradients(
    loss: Any, params: Tree
) -> tuple[Scalar, list[Array], list[Array], Structure]:
    """Evaluate a loss and differentiate it.

    Parameters
    ----------
    loss : torch.Tensor or callable
        A torch scalar, or a function of the parameters that returns a scalar of torch, JAX,
        TensorFlow or the ``autograd`` package, or the pair ``(value, gradients)``, which works
        for every library. For torch and TensorFlow, it may also be a function without arguments
        that reads the parameters themselves.
    params : tree of arrays
        The parameters.

    Returns
    -------
    value : scalar
        The value of the loss.
    gradients, params : list of array
        In the order of the parameters; None for a parameter that is None.
    structure : Structure
        The structure of the parameters.

    Raises
    ------
    TypeError
        If the loss is neither, or the library has no automatic differentiation.
    ValueError
        If the loss does not depend on some parameter.
    """
    leaves, structure = flatten(params)
    if not callable(loss):
        return loss, torch_gradients(loss, leaves, structure), leaves, structure
    names = {backend_of(x).name for x in leaves if x is not None}
    differentiate = _BY_LIBRARY.get(names.pop(), _pair) if len(names) == 1 else _pair

    def of_leaves(xs: Sequence[Array]) -> Any:
        params = structure.build(xs)
        try:
            return loss(params)
        except TypeError:
            # Only after an error: inspecting a signature takes longer than a small step.
            fault = mismatch(loss, params)
            if fault and differentiate in (by_torch, by_tensorflow) and not mismatch(loss):
                return loss()
            if fault:
                raise TypeError(_takes_params(loss, fault)) from None
            raise

    value, gradients = differentiate(loss, of_leaves, leaves, structure)
    return value, gradients, leaves, structure


def _pair(loss: Any, of_leaves: Loss, leaves: list[Array], structure: Structure) -> Any:
    value = of_leaves(leaves)
    if isinstance(value, tuple):
        return by_hand(value, structure)
    library = next((backend_of(x).name for x in leaves if x is not None), "no")
    raise TypeError(
        f"{library} arrays have no automatic differentiation; let the loss return the pair "
        "(value, gradients)"
    )


def _takes_params(loss: Any, fault: str) -> str:
    return (
        f"the loss is called with the parameters, one tree, but {loss!r} does not accept that "
        f"({fault}); write lambda params: ..."
    )


_BY_LIBRARY = {
    "jax": by_jax,
    "mlx": by_mlx,
    "numpy": by_autograd,
    "tensorflow": by_tensorflow,
    "torch": by_torch,
}
