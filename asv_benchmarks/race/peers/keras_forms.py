"""Keras 3, on the backend that the environment names, as its own trainers step."""

from __future__ import annotations

from typing import Any

import keras

from ..peer import Stepper, Task
from ..shapes import arrays


def make(task: Task) -> Stepper:
    """Step variables of Keras."""
    variables = [keras.Variable(a) for a in arrays(task.shape, 0, 0.02)]
    grads = [keras.ops.convert_to_tensor(a) for a in arrays(task.shape, 1, 0.01)]
    optimizer = keras.optimizers.Adam(1e-3, epsilon=1e-8)
    optimizer.build(variables)
    if keras.backend.backend() == "jax":
        return _compiled(optimizer, variables, grads)
    import torch

    def step() -> None:
        with torch.no_grad():
            optimizer.apply(grads, variables)

    return Stepper(step)


def _compiled(optimizer: Any, variables: list[Any], grads: list[Any]) -> Stepper:
    from .optax_forms import Stepping

    def update(held: Any, given: Any) -> Any:
        return optimizer.stateless_apply(held[1], given, held[0])

    held = [v.value for v in variables], [v.value for v in optimizer.variables]
    return Stepper(Stepping(update, held, grads))
