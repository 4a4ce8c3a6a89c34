"""The optimizers under everything of torch that wraps, scales, schedules or averages."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn

from optimizers_under_test import cls_of, same
from torch_models import halves, loss, model, of, train, values


def warm(optimizer: Any) -> Any:
    """Return a scheduler to put into others."""
    return lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2)


SCHEDULERS: dict[str, Any] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, [lambda n: 0.9**n, lambda n: 0.5**n]),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda n: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [1, 3]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 2),
    "LinearLR": warm,
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [warm(o), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 4),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 4),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [warm(o), lr_scheduler.ExponentialLR(o, 0.9)], o
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 2),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=8),
    "SWALR": lambda o: SWALR(o, 0.02),
}
"""Each scheduler of torch, by its name."""


def test_the_table_is_complete() -> None:
    """A scheduler that a new torch brings shows here."""
    known = {name for name in lr_scheduler.__all__ if name not in {"LRScheduler"}}
    assert known | {"SWALR"} == set(SCHEDULERS)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers(scheduler: str) -> None:
    """The settings go the way that they go with torch's own SGD, and so do the parameters."""
    momentum = 0.5 if scheduler in {"CyclicLR", "OneCycleLR"} else 0.0
    found: list[Any] = []
    wanted: list[Any] = []
    for seen, cls in ((found, of("SGD")), (wanted, torch.optim.SGD)):
        net = model(torch.float64)
        optimizer = cls(halves(net, lr=0.05), lr=0.1, momentum=momentum)
        schedule, rows = SCHEDULERS[scheduler](optimizer), []
        for step in range(5):
            train(net, optimizer, range(step, step + 1), torch.float64)
            schedule.step(*([1.0 + step] if scheduler == "ReduceLROnPlateau" else []))
            rows += [(group["lr"], group["momentum"]) for group in optimizer.param_groups]
        seen += [rows, values(net)]
    assert found[0] == wanted[0]
    assert len({row[0] for row in found[0]}) > 1
    if not momentum:
        for a, b in zip(found[1], wanted[1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-13, atol=0)


def test_momentum_is_cycled(name: str) -> None:
    """Where there is momentum or betas, OneCycleLR drives it, and the steps follow."""
    net, other = model(), model()
    optimizer, plain = of(name)(net.parameters()), of(name)(other.parameters())
    key = next((k for k in ("betas", "momentum") if k in optimizer.defaults), None)
    if key is None:
        with pytest.raises(ValueError, match="must support momentum or beta1"):
            lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=6)
        return
    scheduler = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=6)
    seen = set()
    for step in range(5):
        group = optimizer.param_groups[0]
        momentum = group[key][0] if key == "betas" else group[key]
        seen.add(momentum)
        word = key if key == "momentum" else plain.spelling.keys[key][0]
        values_now = plain.spelling.spelled({"lr": group["lr"], word: momentum}, plain.defaults)
        plain.param_groups[0].update(values_now)
        train(net, optimizer, range(step, step + 1))
        train(other, plain, range(step, step + 1))
        scheduler.step()
    assert len(seen) > 2
    same(values(net), values(other))


def test_scaled_gradients(name: str) -> None:
    """GradScaler unscales, and leaves out the step whose gradients overflow."""
    net, other = model(), model()
    optimizer, plain = of(name)(net.parameters()), of(name)(other.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    for step in range(4):
        optimizer.zero_grad()
        scaler.scale(loss(net, step)).backward()
        if step == 2:
            net[0].bias.grad[0] = torch.inf
        scaler.step(optimizer)
        scaler.update()
        if step != 2:
            train(other, plain, range(step, step + 1))
    same(values(net), values(other))
    assert optimizer.state[net[0].bias]["step"] == 3
    assert scaler.get_scale() == 2.0**10


def test_averaged_models(name: str) -> None:
    """Averages of a model under SWALR and of an exponential kind follow its parameters."""
    net = model()
    optimizer = of(name)(net.parameters(), lr=0.05)
    swa = AveragedModel(net)
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    scheduler = SWALR(optimizer, swa_lr=0.01, anneal_epochs=2)
    history = []
    for step in range(3):
        train(net, optimizer, range(step, step + 1))
        swa.update_parameters(net)
        ema.update_parameters(net)
        scheduler.step()
        history.append(values(net))
    for i, (a, e) in enumerate(zip(swa.parameters(), ema.parameters(), strict=True)):
        one, two, three = (torch.from_numpy(row[i]) for row in history)
        torch.testing.assert_close(a.detach(), (one + two + three) / 3)
        torch.testing.assert_close(e.detach(), 0.25 * one + 0.25 * two + 0.5 * three)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_each_hyperparameter_can_be_written(name: str) -> None:
    """A number of a group is the number of the next step."""
    for word, declared in cls_of(name).hyperparameters.items():
        if not declared.numeric or declared.default is None or word == "seed":
            continue
        net, other = model(), model()
        if declared.keyword and word == "momentum":
            continue  # RMSprop has another slot with momentum, from the first step on
        optimizer, default = of(name)(net.parameters()), declared.default
        near = (default + 1,) if declared.integer else (1.5 * default or 0.25, 0.75 * default)
        made = next(value for value in near if value in declared.interval)
        plain = of(name)(other.parameters(), **{word: made})
        optimizer.param_groups[0].update(plain.spelling.spelled({word: made}, optimizer.defaults))
        train(net, optimizer, range(3))
        train(other, plain, range(3))
        same(values(net), values(other))
