"""The Adam that DeepSpeed has for parameters kept in host memory."""

from __future__ import annotations

from deepspeed.ops.adam import DeepSpeedCPUAdam

from ..peer import Stepper, Task
from .torch_forms import parameters


def make(task: Task) -> Stepper:
    """Step parameters by their ``.grad``; the first use compiles DeepSpeed's C++."""
    return Stepper(DeepSpeedCPUAdam(parameters(task.shape), lr=1e-3, adamw_mode=False).step)
