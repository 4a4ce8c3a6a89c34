"""The optimizers of torch, in each form that torch has of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..peer import Stepper, Task, nothing
from ..shapes import arrays, sparse

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {"lr": 1e-3}),
    "sgd": (torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9, "nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 1e-3, "alpha": 0.9}),
    "adagrad": (torch.optim.Adagrad, {"lr": 1e-2}),
    "adadelta": (torch.optim.Adadelta, {"lr": 1.0, "rho": 0.95}),
    "adamax": (torch.optim.Adamax, {"lr": 2e-3}),
    "nadam": (torch.optim.NAdam, {"lr": 2e-3}),
    "asgd": (torch.optim.ASGD, {}),
    "rprop": (torch.optim.Rprop, {}),
    "adamw": (torch.optim.AdamW, {"lr": 1e-3}),
    "nadamw": (
        torch.optim.NAdam,
        {"lr": 2e-3, "weight_decay": 0.01, "decoupled_weight_decay": True},
    ),
    "muon": (torch.optim.Muon, {"lr": 1e-3, "weight_decay": 0.0}),
    "adafactor": (torch.optim.Adafactor, {"lr": 1e-3}),
    "radam": (torch.optim.RAdam, {"lr": 1e-3}),
}
FORMS: dict[str, dict[str, bool]] = {
    "fused": {"fused": True},
    "foreach": {"foreach": True},
    "loop": {"foreach": False},
}


def parameters(shape: str) -> list[torch.nn.Parameter]:
    """Make parameters in memory of torch's own, with gradients."""
    params = [torch.nn.Parameter(torch.from_numpy(a).clone()) for a in arrays(shape, 0, 0.02)]
    for p, g in zip(params, arrays(shape, 1, 0.01), strict=True):
        p.grad = torch.from_numpy(g).clone()
    return params


def optimizer(name: str, form: str, params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Return an optimizer by its name in this race."""
    cls, options = OPTIMIZERS[name]
    forms = {} if cls is torch.optim.Muon else FORMS[form]  # it has one form only
    made: torch.optim.Optimizer = cls(params, **options, **forms)
    return made


def table_with_rows(shape: str) -> tuple[torch.nn.Parameter, list[torch.Tensor]]:
    """Make a table, and sparse gradients of it in coordinate layout."""
    (table,) = arrays(shape, 0, 0.02)
    found = [
        torch.sparse_coo_tensor(
            torch.from_numpy(indices)[None],
            torch.from_numpy(rows),
            table.shape,
            check_invariants=True,
        )
        for indices, rows in sparse(shape)
    ]
    return torch.nn.Parameter(torch.from_numpy(table).clone()), found


def make(task: Task) -> Stepper:
    """Step parameters by their ``.grad``."""
    if task.form == "sparse":
        table, grads = table_with_rows(task.shape)
        opt, turn = torch.optim.SparseAdam([table]), cycle(grads)
        return Stepper(opt.step, lambda: setattr(table, "grad", next(turn)))
    params = parameters(task.shape)
    if task.optimizer == "composite":
        return Stepper(composite(task.form, params))
    restore = _restoring(params) if task.optimizer == "nesterov" else nothing
    return Stepper(optimizer(task.optimizer, task.form, params).step, restore)


def _restoring(params: list[torch.nn.Parameter]) -> Callable[[], None]:
    """Put the gradients back: torch 2.13's foreach adds Nesterov's momentum to them."""
    grads = [p.grad for p in params if p.grad is not None]
    kept = [g.clone() for g in grads]
    return lambda: torch._foreach_copy_(grads, kept)


def composite(form: str, params: list[torch.nn.Parameter]) -> Callable[[], None]:
    """Clip by the global norm, decay and step, then average the parameters."""
    kind = "foreach" if form == "foreach" else "fused"
    opt: Any = torch.optim.AdamW(params, lr=1e-3, weight_decay=0.01, **FORMS[kind])
    clip = _scaled(opt, params) if form == "scaled" else _clipped(params)
    average = _averaged(params) if form == "averaged" else _lerped(params)

    def step() -> None:
        clip()
        opt.step()
        average()

    return step


def _clipped(params: list[torch.nn.Parameter]) -> Callable[[], object]:
    return lambda: torch.nn.utils.clip_grad_norm_(params, 1.0, foreach=True)


def _scaled(opt: Any, params: list[torch.nn.Parameter]) -> Callable[[], None]:
    """Hand the factor to the fused step, as torch's GradScaler does: one pass less."""
    opt.found_inf = torch.zeros(())

    def clip() -> None:
        norm = torch.nn.utils.get_total_norm([p.grad for p in params if p.grad is not None])
        opt.grad_scale = norm.clamp(min=1.0)

    return clip


def _lerped(params: list[torch.nn.Parameter]) -> Callable[[], None]:
    averages = [p.detach().clone() for p in params]
    values = [p.detach() for p in params]
    return lambda: torch._foreach_lerp_(averages, values, 1.0 - 0.999)


def _averaged(params: list[torch.nn.Parameter]) -> Callable[[], None]:
    model = torch.nn.ParameterList(params)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    return lambda: averaged.update_parameters(model)
