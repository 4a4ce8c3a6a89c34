"""Derivatives by JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..._typing import Array
from ..libraries import backend_of
from ..trees import Structure
from .losses import (
    Loss,
    by_hand,
    descent,
    known_scalar,
    no_scalar,
    remember_scalar,
    require_all,
    without_none,
)


def by_jax(loss: Any, of_leaves: Loss, leaves: list[Array], structure: Structure) -> Any:
    """Return value and gradients of a loss of JAX arrays."""
    import jax

    if not known_scalar(loss):
        try:
            pair = isinstance(jax.eval_shape(of_leaves, leaves), tuple)
        except jax.errors.JAXTypeError:
            # A loss that returns its own gradients may compute them on the host, untraced.
            given = of_leaves(leaves)
            if isinstance(given, tuple):
                return by_hand(given, structure)
            if hasattr(given, "dtype"):
                raise
            raise no_scalar(given) from None
        if pair:
            return by_hand(of_leaves(leaves), structure)
        remember_scalar(loss)
    value, found = jax.value_and_grad(of_leaves)(leaves)
    gradients = [None if g is None else descent(g) for g in found]
    if _may_be_unused(gradients):
        require_all(_jax_dependence(of_leaves, leaves), structure)
    return value, gradients


def _may_be_unused(gradients: Sequence[Array | None]) -> bool:
    """Whether JAX returned only zeros, as it does for a parameter that the loss does not use.

    While a step is traced there are no values to tell by.
    """
    import jax

    present = without_none(gradients)
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
