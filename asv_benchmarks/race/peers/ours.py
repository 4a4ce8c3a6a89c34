"""This library."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import arrayoptim as ao

from ..peer import Stepper, Task
from ..shapes import arrays, sparse

OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "adam": ("Adam", {}),
    "sparse-adam": ("Adam", {"sparse": "lazy"}),
    "composite": ("Adam", {"clipnorm": 1.0, "weight_decay": 0.01, "ema_momentum": 0.999}),
    "sgd": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "rmsprop": ("RMSprop", {}),
    "adagrad": ("Adagrad", {}),
    "adadelta": ("Adadelta", {}),
    "adamax": ("Adamax", {}),
    "nadam": ("Nadam", {}),
    "asgd": ("ASGD", {}),
    "rprop": ("Rprop", {}),
    "ftrl": ("Ftrl", {}),
    "schedule-free-sgd": ("ScheduleFreeSGD", {}),
    "schedule-free-adamw": ("ScheduleFreeAdamW", {}),
    "adamw": ("AdamW", {}),
    "nadamw": ("NadamW", {}),
    "muon": ("Muon", {"scaling": "shape"}),
    "adafactor": ("Adafactor", {}),
    "radam": ("RAdam", {}),
    "adabelief": ("AdaBelief", {}),
    "yogi": ("Yogi", {}),
    "adan": ("Adan", {}),
    "ademamix": ("AdEMAMix", {}),
    "adopt": ("ADOPT", {}),
    "lion": ("Lion", {}),
    "signum": ("Signum", {}),
}


def optimizer(name: str, **options: Any) -> ao.Optimizer:
    """Return an optimizer by its name in this race."""
    class_name, config = OPTIMIZERS[name]
    return ao.get({"class_name": class_name, "config": config | options})


def make(task: Task) -> Stepper:
    """Step NumPy arrays, or torch tensors by their ``.grad``; other forms are a state_dtype."""
    if task.optimizer == "sparse-adam":
        return _of_rows(task)
    if task.form == "torch":
        return _of_tensors(task)
    params, grads = list(arrays(task.shape, 0, 0.02)), list(arrays(task.shape, 1, 0.01))
    opt = optimizer(task.optimizer, **({"state_dtype": task.form} if task.form else {}))
    return Stepper(lambda: opt.apply(grads, params))


def _of_rows(task: Task) -> Stepper:
    """Step a table by the rows of sparse gradients, one after another; in one form all rows."""
    (table,) = arrays(task.shape, 0, 0.02)
    grads = [ao.Rows(*pair, table.shape) for pair in sparse(task.shape)]
    turn = cycle(grads)
    if task.form == "torch":
        from .torch_forms import table_with_rows

        param, tensors = table_with_rows(task.shape)
        opt, others = optimizer(task.optimizer), cycle(tensors)
        return Stepper(lambda: opt.apply(next(others), param.detach()))
    opt = optimizer(task.optimizer, **({"sparse": task.form} if task.form else {}))
    return Stepper(lambda: opt.apply(next(turn), table))


def _of_tensors(task: Task) -> Stepper:
    from .torch_forms import parameters

    params = parameters(task.shape)
    opt = optimizer(task.optimizer)
    return Stepper(lambda: opt.apply([p.grad for p in params], params))
