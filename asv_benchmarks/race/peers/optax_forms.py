"""optax, compiled by JAX, with its buffers given away so that it may update in place."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..peer import Stepper, Task
from ..shapes import arrays


def make(task: Task) -> Stepper:
    """Step arrays of JAX."""
    adam = optax.adam(1e-3)
    params = [jnp.array(a) for a in arrays(task.shape, 0, 0.02)]
    grads = [jnp.array(a) for a in arrays(task.shape, 1, 0.01)]

    def update(held: Any, given: Any) -> Any:
        values, state = held
        updates, state = adam.update(given, state)
        return optax.apply_updates(values, updates), state

    return Stepper(Stepping(update, (params, adam.init(params)), grads))


class Stepping:
    """A compiled step, and what it holds; a step is over when its results are there."""

    def __init__(self, update: Any, held: Any, grads: Any) -> None:
        self.update = jax.jit(update, donate_argnums=0)
        self.held, self.grads = held, grads

    def __call__(self) -> None:
        """Take one step."""
        self.held = jax.block_until_ready(self.update(self.held, self.grads))
