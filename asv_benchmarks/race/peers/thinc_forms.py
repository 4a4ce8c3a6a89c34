"""Thinc's Adam, which is called once for each array."""

from __future__ import annotations

import numpy as np
from thinc.api import Adam

from ..peer import Stepper, Task
from ..shapes import arrays


def make(task: Task) -> Stepper:
    """Step NumPy arrays."""
    params, grads = list(arrays(task.shape, 0, 0.02)), list(arrays(task.shape, 1, 0.01))
    kept = list(arrays(task.shape, 1, 0.01))
    adam = Adam(1e-3, grad_clip=0.0, use_averages=False)

    def step() -> None:
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            adam((i, "p"), p, g)
        adam.step_schedules()

    def restore() -> None:  # a step leaves zeros in the gradients
        for g, k in zip(grads, kept, strict=True):
            np.copyto(g, k)

    return Stepper(step, restore)
