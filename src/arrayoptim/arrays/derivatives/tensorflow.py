"""Derivatives by TensorFlow."""

from __future__ import annotations

from typing import Any

from ..._typing import Array
from ..trees import Structure
from .losses import (
    Loss,
    by_hand,
    no_scalar,
    require_all,
    without_none,
)


def by_tensorflow(loss: Any, of_leaves: Loss, leaves: list[Array], structure: Structure) -> Any:
    """Return value and gradients of a loss of TensorFlow tensors."""
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(without_none(leaves))
        value = of_leaves(leaves)
    if isinstance(value, tuple):
        return by_hand(value, structure)
    if not tf.is_tensor(value) or value.shape.rank not in (0, None):
        raise no_scalar(value)
    found = iter(tape.gradient(value, without_none(leaves)))
    gradients = [None if p is None else next(found) for p in leaves]
    require_all(
        [p is None or g is not None for p, g in zip(leaves, gradients, strict=True)], structure
    )
    # For an embedding, the tape returns only the rows that were looked up.
    return value, [None if g is None else tf.convert_to_tensor(g) for g in gradients]
