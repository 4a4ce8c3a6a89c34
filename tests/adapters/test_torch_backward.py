"""Steps that are taken while the backward pass runs, against those that are taken after it."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch

import arrayoptim as ao
from torch_models import agree, halves, loss, model, of, through_a_file, values

CLASSES = ["AdamW", "SGD", "Adafactor", "NAdam", "LAMB", "Muon", "Lion", "ASGD"]


def trained(net: Any, optimizer: Any, steps: range, scheduler: Any = None) -> None:
    """Take steps in the loop that everybody has."""
    for step in steps:
        loss(net, step).backward()
        optimizer.step()
        optimizer.zero_grad()
        if scheduler is not None:
            scheduler.step()


def scheduled(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7)


@pytest.mark.parametrize("name", CLASSES)
def test_the_same_steps(name: str) -> None:
    """Bit for bit those of the usual loop, with groups, schedulers and options."""
    nets = model(), model()
    settings = {"clipvalue": 0.01, "ema_momentum": 0.9}
    both = [of(name)(halves(net, lr=0.02), lr=0.01, **settings) for net in nets]
    both[1].step_in_backward()
    for net, optimizer in zip(nets, both, strict=True):
        trained(net, optimizer, range(5), scheduled(optimizer))
    agree((nets[0], both[0]), (nets[1], both[1]))


def test_gradients_are_freed_at_once() -> None:
    """While one is there, those that came before are gone."""
    net = model()
    most, alive = [0], weakref.WeakSet[Any]()
    optimizer = ao.torch.Adam(net.parameters())

    def look(p: Any) -> None:
        alive.add(p.grad)
        most[0] = max(most[0], len(alive))

    for p in net.parameters():
        p.register_post_accumulate_grad_hook(look)
    optimizer.step_in_backward()
    loss(net).backward()
    assert most[0] == 1
    assert all(p.grad is None for p in net.parameters())
    assert {int(optimizer.state[p]["step"]) for p in net.parameters()} == {1}


@pytest.mark.parametrize("clips", [False, True])
def test_resumes_exactly(clips: bool) -> None:
    """From a file, in the middle of training, the norm of the last step included."""

    def made(net: Any) -> Any:
        optimizer = ao.torch.AdamW(
            net.named_parameters(), lr=0.01, clipnorm=0.05 if clips else None
        )
        optimizer.step_in_backward(clip_by_last_norm=clips)
        return optimizer

    whole = model()
    trained(whole, one := made(whole), range(6))
    half, rest = model(), model()
    trained(half, two := made(half), range(3))
    saved = through_a_file(two.state_dict())
    rest.load_state_dict(half.state_dict())
    three = made(rest)
    trained(rest, three, range(7, 9))  # what it has seen before is forgotten
    rest.load_state_dict(half.state_dict())
    three.load_state_dict(saved)
    trained(rest, three, range(3, 6))
    for a, b in zip(values(whole), values(rest), strict=True):
        assert (a == b).all()
    assert all(
        torch.equal(x, three.state[q][key])
        for p, q in zip(whole.parameters(), rest.parameters(), strict=True)
        for key, x in one.state[p].items()
    )


@pytest.mark.parametrize("calls_step", [True, False])
def test_clips_by_the_norm_of_the_step_before(calls_step: bool) -> None:
    """Against a loop that scales gradients by torch's own norm of the step before."""
    net, plain, bound, last = model(torch.float64), model(torch.float64), 0.05, None
    optimizer = ao.torch.SGD(net.parameters(), lr=0.5, clipnorm=bound)
    optimizer.step_in_backward(clip_by_last_norm=True)
    native = torch.optim.SGD(plain.parameters(), lr=0.5)
    for step in range(5):
        native.zero_grad()
        loss(plain, step, torch.float64).backward()
        grads = [p.grad for p in plain.parameters()]
        norm = torch.nn.utils.get_total_norm(grads)
        if last is None:
            moved = _first(bound, step)
            with torch.no_grad():
                for p, q in zip(plain.parameters(), moved, strict=True):
                    p.copy_(q)
        else:
            for g in grads:
                g.mul_(min(1.0, bound / float(last)))
            native.step()
        last = norm
        loss(net, step, torch.float64).backward()
        if calls_step:
            optimizer.step()
        for p, q in zip(net.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


def _first(bound: float, step: int) -> list[Any]:
    """Return the parameters after a first step, whose gradients are clipped by those so far."""
    net = model(torch.float64)
    squares: list[float] = []

    def clip(p: Any) -> None:
        squares.append(float(p.grad.square().sum()))
        with torch.no_grad():
            p.sub_(0.5 * p.grad * min(1.0, bound / sum(squares) ** 0.5))

    for p in net.parameters():
        p.register_post_accumulate_grad_hook(clip)
    loss(net, step, torch.float64).backward()
    return [p.detach() for p in net.parameters()]


@pytest.mark.parametrize(
    ("name", "settings", "clips", "said"),
    [
        ("Adam", {"clipnorm": 1.0}, False, "clipnorm=1.0 needs the norm of all gradients"),
        ("Adam", {"nonfinite": "skip"}, False, "nonfinite='skip' needs all gradients"),
        ("Prodigy", {}, False, "Prodigy needs totals over all parameters of a group"),
        ("DoG", {}, False, "DoG needs totals over all parameters of a group"),
        ("Adam", {}, True, "found clip_by_last_norm=True without clipnorm"),
    ],
)
def test_refused(name: str, settings: Any, clips: bool, said: str) -> None:
    """What needs all gradients at once is refused by its name, and nothing is hooked."""
    net = model()
    optimizer = of(name)(net.parameters(), **settings)
    with pytest.raises(ValueError, match=said):
        optimizer.step_in_backward(clip_by_last_norm=clips)
    loss(net).backward()
    assert all(p.grad is not None for p in net.parameters())
    optimizer.step()


def test_refused_later() -> None:
    """A setting that comes later is refused too, before the parameter moves."""
    net = model()
    optimizer = ao.torch.Adam(net.parameters())
    optimizer.step_in_backward()
    with pytest.raises(ValueError, match="is already on"):
        optimizer.step_in_backward()
    optimizer.param_groups[0]["clipnorm"] = 1.0
    before = values(net)
    with pytest.raises(ValueError, match="clip_by_last_norm=True uses the norm"):
        loss(net).backward()
    for a, b in zip(before, values(net), strict=True):
        assert (a == b).all()


def test_turned_off_and_groups_added() -> None:
    """Parameters added later are stepped too; turned off, `step` steps as before."""
    net, other = model(), model()
    optimizer = ao.torch.Adam(net[0].parameters(), lr=0.01)
    handle = optimizer.step_in_backward()
    optimizer.add_param_group({"params": list(net[2].parameters())})
    usual = ao.torch.Adam(halves(other), lr=0.01)
    for step in range(2):
        loss(net, step).backward()
        optimizer.step()
    handle.remove()
    trained(net, optimizer, range(2, 4))
    trained(other, usual, range(4))
    agree((net, optimizer), (other, usual))


def test_frozen_parameters_stay() -> None:
    """Without a gradient nothing happens."""
    net = model()
    net[0].requires_grad_(False)
    optimizer = ao.torch.AdamW(net.parameters(), lr=0.1)
    optimizer.step_in_backward()
    before = net[0].weight.clone()
    trained(net, optimizer, range(2))
    assert torch.equal(net[0].weight, before)
    assert net[0].weight not in optimizer.state


def test_sparse_gradients() -> None:
    """`SparseAdam` steps the rows that there are."""
    nets = [torch.nn.Embedding(5, 2, sparse=True) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    both = [ao.torch.SparseAdam(net.parameters(), lr=0.1) for net in nets]
    both[1].step_in_backward()
    for step in range(3):
        for net, optimizer in zip(nets, both, strict=True):
            net(torch.tensor([step, 1])).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert torch.equal(nets[0].weight, nets[1].weight)
