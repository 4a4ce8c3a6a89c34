"""Adam on NumPy, as a user writes it."""

from __future__ import annotations

import numpy as np

from ..peer import Stepper, Task
from ..shapes import arrays


def make(task: Task) -> Stepper:
    """Step NumPy arrays."""
    params, grads = list(arrays(task.shape, 0, 0.02)), list(arrays(task.shape, 1, 0.01))
    moments = [np.zeros_like(p) for p in params]
    squares = [np.zeros_like(p) for p in params]
    t = 0

    def step() -> None:
        nonlocal t
        t += 1
        for p, g, m, v in zip(params, grads, moments, squares, strict=True):
            m[...] = 0.9 * m + 0.1 * g
            v[...] = 0.999 * v + 0.001 * g * g
            m_hat = m / (1 - 0.9**t)
            v_hat = v / (1 - 0.999**t)
            p -= 1e-3 * m_hat / (np.sqrt(v_hat) + 1e-8)

    return Stepper(step)
