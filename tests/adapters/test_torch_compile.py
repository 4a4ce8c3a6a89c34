"""Training loops compiled by torch, with a step inside: it is left alone, once and for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

import arrayoptim as ao
from gpu_on_host import compiler

# Of the compiler's own look at the loss.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")

INPUTS = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
STEPS = 5


def model() -> torch.nn.Module:
    """Return a small model, always the same."""
    torch.manual_seed(0)
    last = torch.nn.Linear(8, 3, bias=False)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), last)


def trained(net: torch.nn.Module, optimizer: Any) -> torch.Tensor:
    """Take a step of a plain loop."""
    optimizer.zero_grad(set_to_none=True)
    loss = net(INPUTS).square().mean()
    loss.backward()
    optimizer.step()
    return loss.detach()


def with_closure(net: torch.nn.Module, optimizer: Any) -> torch.Tensor:
    """Take a step with a closure."""

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = net(INPUTS).square().mean()
        loss.backward()
        return loss

    return optimizer.step(closure).detach()


def accumulated(net: torch.nn.Module, optimizer: Any) -> torch.Tensor:
    """Take a step with gradients of two passes, clipped by torch, and leave zeros."""
    for _ in range(2):
        loss = net(INPUTS).square().mean()
        loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return loss.detach()


def compared(
    make: Callable[[torch.nn.Module], Any],
    train: Callable[..., Any] = trained,
    between: Callable[[Any, int], None] | None = None,
    **words: Any,
) -> int:
    """Compare a compiled loop with a plain one; return how often the compiler stopped in it."""
    torch._dynamo.reset()
    counters.clear()
    nets = model(), model()
    optimizers = [make(net) for net in nets]
    compiled = torch.compile(train, **{"backend": "eager", **words})
    frames = []
    for step in range(STEPS):
        plain, found = train(nets[0], optimizers[0]), compiled(nets[1], optimizers[1])
        assert torch.equal(plain, found)
        frames.append(counters["frames"]["total"])
        for optimizer in optimizers if between else ():
            assert between is not None
            between(optimizer, step)
    assert all(map(torch.equal, nets[0].parameters(), nets[1].parameters()))
    assert len(set(frames[1:])) == 1, "nothing is compiled again"
    return sum(counters["graph_break"].values())


def made(name: str, **words: Any) -> Callable[[torch.nn.Module], Any]:
    """Return what makes an optimizer for a model."""
    return lambda net: getattr(ao.torch, name)(net.parameters(), **words)


@pytest.mark.slow
def test_every_optimizer(name: str) -> None:
    """The compiler stops at the backward pass and at the step, and traces no rule."""
    assert compared(made(name, capturable=True)) <= 3


LOOPS: dict[str, tuple[Any, Any]] = {
    "closure": (made("Adam"), with_closure),
    "accumulated": (made("AdamW"), accumulated),
    "clipped": (made("Adam", clipnorm=0.1, nonfinite="skip"), trained),
    "rate on the device": (made("Adam", lr=torch.tensor(0.1)), trained),
    "LBFGS": (made("LBFGS", max_iter=4), with_closure),
    "LBFGS with a search": (
        made("LBFGS", max_iter=4, line_search_fn="strong_wolfe"),
        with_closure,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_loops(loop: str) -> None:
    """Of other kinds."""
    assert compared(*LOOPS[loop]) <= 7


def test_groups_that_are_edited() -> None:
    """Between steps, as schedulers do, and with parameters that come later."""

    def between(optimizer: Any, step: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        if step == 1:
            optimizer.param_groups[0]["weight_decay"] = 0.1
        if step == 2:
            optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))], "lr": 0.5})

    assert compared(made("Adam"), between=between) <= 4


@pytest.mark.slow
def test_schedulers_inside() -> None:
    """Their step is a part of the compiled function."""
    schedulers: dict[int, Any] = {}

    def make(net: torch.nn.Module) -> Any:
        optimizer = ao.torch.Adam(net.parameters(), lr=0.1)
        schedulers[id(optimizer)] = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        return optimizer

    def train(net: torch.nn.Module, optimizer: Any) -> torch.Tensor:
        loss = trained(net, optimizer)
        schedulers[id(optimizer)].step()
        return loss

    assert compared(make, train) <= 8


@pytest.mark.slow
def test_loss_scaling_inside() -> None:
    """With torch's GradScaler."""
    scalers: dict[int, Any] = {}

    def train(net: torch.nn.Module, optimizer: Any) -> torch.Tensor:
        scaler = scalers[id(optimizer)]
        optimizer.zero_grad()
        loss = net(INPUTS).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    def make(net: torch.nn.Module) -> Any:
        optimizer = ao.torch.Adam(net.parameters())
        scalers[id(optimizer)] = torch.amp.GradScaler("cpu")
        return optimizer

    assert compared(make, train) <= 10


def test_steps_in_the_backward_pass() -> None:
    """The hooks that take them are left alone too."""

    def make(net: torch.nn.Module) -> Any:
        optimizer = ao.torch.SGD(net.parameters(), lr=0.1)
        optimizer.step_in_backward()
        return optimizer

    assert compared(make) <= 4


@pytest.mark.slow
def test_hooks_and_profilers() -> None:
    """Are called for each step, as without the compiler."""
    calls: list[Any] = []

    def make(net: torch.nn.Module) -> Any:
        optimizer = ao.torch.SGD(net.parameters(), lr=0.1)
        optimizer.register_step_post_hook(lambda *_: calls.append(1))
        return optimizer

    compared(make)
    assert len(calls) == 2 * STEPS
    net = model()
    optimizer = made("SGD")(net)
    net(INPUTS).sum().backward()
    with torch.autograd.profiler.profile() as profile:
        optimizer.step()
    assert any("SGD.step" in event.name for event in profile.function_events)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_other_backends(backend: str) -> None:
    """What compiles the rest of the loop does not matter."""
    if backend == "inductor" and compiler() is None:
        pytest.skip("there is no C++ compiler")
    torch._dynamo.reset()
    nets = model(), model()
    optimizers = [made("AdamW", clipnorm=0.1)(net) for net in nets]
    compiled = torch.compile(trained, backend=backend)
    for _ in range(3):
        trained(nets[0], optimizers[0])
        compiled(nets[1], optimizers[1])
    for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(p, q)
