"""Steps that torch's own CUDA graphs hold, on the host: a replay runs what was launched, alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import arrayoptim as ao
from arrayoptim.engines.gpu.arrays import LIBRARIES
from gpu_on_host import TorchOnHost, compiler
from optimizers_under_test import fused
from torch_graphs import BEFORE, STEPS, Graph, Groups, Loop, captured, same

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> TorchOnHost:
    """Take torch tensors of the CPU for those of a GPU."""
    found = TorchOnHost()
    monkeypatch.setitem(LIBRARIES, "torch", found)
    return found


def trained(
    library: TorchOnHost, name: str, loop: type[Loop] = Loop, **words: Any
) -> tuple[Loop, Loop]:
    """Return a loop by a graph, and one by steps."""
    one, two = loop(library, name, capturable=True, **words), loop(library, name, **words)
    one.eager(BEFORE)
    one.capture()
    one.replay(STEPS - BEFORE)
    two.eager(STEPS)
    return one, two


MEASURED = {"DoG", "Prodigy"}


def test_every_optimizer(name: str, library: TorchOnHost) -> None:
    """What is fused has the bits of steps one by one; the others say why they are not."""
    options = {"clipnorm": 0.5, "ema_momentum": 0.9}
    if not fused(name, "gpu") or name in MEASURED:
        loop = Loop(library, name, capturable=True)
        loop.eager(1)
        with pytest.raises(RuntimeError, match=r"put into it: .*(no loop|needs the host)"):
            loop.capture()
        loop.eager(1)
        return
    one, two = trained(library, name, **options)
    same(one, two)
    assert one.optimizer.last_step == two.optimizer.last_step
    assert int(one.optimizer.state[next(one.model.parameters())]["step"]) == STEPS


OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("Adam", {"amsgrad": True, "maximize": True, "weight_decay": 0.1}),
    ("Adam", {"weight_decay": 0.1, "exclude": ["0", "3"], "clipvalue": 0.1}),
    ("Adam", {"cautious": True, "decay": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {"momentum": 0.9, "dampening": 0.5, "dtype": torch.bfloat16, "kahan": True}),
    ("NAdam", {"decoupled_weight_decay": True, "weight_decay": 0.1, "dtype": torch.float64}),
    ("AdamW", {"dtype": torch.bfloat16, "master": True, "clipnorm": 0.1}),
    ("AdamW", {"dtype": torch.float64, "constraint": ao.constraints.Box(-0.3, 0.3)}),
    ("SGD", {"momentum": 0.9, "constraint": ao.constraints.MaxNorm(0.3)}),
    ("Adam", {"state_dtype": "int8"}),
    ("Adam", {"state_dtype": "bfloat16"}),
    ("AdamW", {"corrected_decay": True, "peak_lr": 0.01, "weight_decay": 0.1}),
    ("RMSprop", {"centered": True, "momentum": 0.9}),
    ("AdEMAMix", {"alpha_warmup": 4, "beta_3_warmup": 5}),
    ("Adafactor", {"dtype": torch.float64}),
    ("Adam", {"clipnorm_per_tensor": 0.05, "clipnorm": 0.2, "clipvalue": 0.02}),
    ("AdamW", {"agc": 0.05, "agc_units": "first", "clipnorm": 0.2, "dtype": torch.bfloat16}),
    ("LAMB", {"agc": 0.05}),
]


@pytest.mark.parametrize(("name", "words"), OPTIONS, ids=str)
def test_every_option(name: str, words: dict[str, Any], library: TorchOnHost) -> None:
    """Options of the class, of storage, and stages have the bits of steps one by one."""
    same(*trained(library, name, **words))


@pytest.mark.parametrize("each", [None, 0.05])
@pytest.mark.parametrize("clipnorm", [None, 0.1])
def test_groups(clipnorm: float | None, each: float | None, library: TorchOnHost) -> None:
    """Groups have numbers of their own; the norm over all of them stays on the device."""
    bounds = {"clipnorm": clipnorm, "clipnorm_per_tensor": each}
    one, two = trained(library, "AdamW", Groups, **bounds)
    same(one, two)
    assert one.optimizer.last_step == two.optimizer.last_step
    library.only.waits = 0
    one.eager(1)
    assert library.only.waits == 0


def test_what_a_replay_launches(library: TorchOnHost) -> None:
    """Addresses, the norm, numbers, and the step, whose arguments hold all that the host knows."""
    loop = Loop(library, "Adam", capturable=True, clipnorm=0.1)
    loop.eager(1)
    library.only.launches.clear()
    sent = len(library.only.sent)
    loop.capture()
    kinds = [name.rsplit("_", 1)[0] for name in library.only.launches]
    assert kinds == ["put", "norm_of", "counted", "adam"]
    assert len(library.only.sent) == sent


def test_a_gradient_that_is_missing(library: TorchOnHost) -> None:
    """A parameter without one is left as it is, and does not count, in a graph and outside."""

    class Frozen(Loop):
        frozen = True

        def train(self) -> None:
            self.model[2].requires_grad_(not self.frozen)
            super().train()

    one, two = (Frozen(library, "NAdam", capturable=c) for c in (True, False))
    for loop in (one, two):
        loop.eager(2)
    one.capture()
    one.replay(2)
    two.eager(2)
    same(one, two)
    one.frozen = two.frozen = False
    one.eager(1)
    two.eager(1)
    one.capture()
    one.replay(2)
    two.eager(2)
    same(one, two)
    steps = [int(entry["step"]) for entry in one.optimizer.state.values()]
    assert sorted(steps) == [3, 3, 7, 7, 7]


def test_a_rate_on_the_device(library: TorchOnHost) -> None:
    """A tensor is read by each replay, and a scheduler writes into it; a number is in the graph."""
    one = Loop(library, "Adam", capturable=True, lr=torch.tensor(0.1, dtype=torch.float64))
    two = Loop(library, "Adam", lr=0.1)
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(x.optimizer, 0.5) for x in (one, two)]
    one.eager(2)
    two.eager(2)
    one.capture()
    for rate in (0.1, 0.05, 0.025):
        one.replay(1)
        two.eager(1)
        assert one.optimizer.last_step == two.optimizer.last_step
        assert one.optimizer.last_step[0].hyperparameters["lr"] == rate
        for scheduler in schedulers:
            scheduler.step()
    same(one, two)
    kept = Loop(library, "Adam", capturable=True, lr=0.1)
    kept.eager(1)
    kept.capture()
    kept.optimizer.param_groups[0]["lr"] = 0.0
    before = kept.numbers()
    kept.replay(1)
    assert not torch.equal(before[0], kept.numbers()[0])
    kept.eager(1)  # outside of the graph the new rate counts


def test_betas_on_the_device(library: TorchOnHost) -> None:
    """As every number of a rule."""
    beta, other = (torch.tensor(x, dtype=torch.float64) for x in (0.9, 0.99))
    one = Loop(library, "AdamW", capturable=True, betas=(beta, other))
    two = Loop(library, "AdamW", betas=(0.9, 0.99))
    one.eager(2)
    two.eager(2)
    one.capture()
    beta.fill_(0.5)
    two.optimizer.param_groups[0]["betas"] = (0.5, 0.99)
    one.replay(2)
    two.eager(2)
    same(one, two)


def test_steps_outside_between(library: TorchOnHost) -> None:
    """Steps one by one, with other rates too, go on from those of a graph, and it from them."""
    one, two = Loop(library, "Nadam", capturable=True), Loop(library, "Nadam")
    one.eager(1)
    one.capture()
    gradients = [p.grad for p in one.model.parameters()]
    one.replay(1)
    for p in one.model.parameters():
        p.grad = None
    one.eager(1)
    for p, g in zip(one.model.parameters(), gradients, strict=True):
        p.grad = g
    one.replay(2)
    two.eager(5)
    same(one, two)


def test_two_graphs(library: TorchOnHost) -> None:
    """Each has memory of its own for what its launches write; both step one state."""
    one, two = (
        Loop(library, "Adam", capturable=True, clipnorm=0.1),
        Loop(library, "Adam", clipnorm=0.1),
    )
    one.eager(2)
    one.capture()
    first = one.graph
    one.capture()
    one.replay(1)
    second, one.graph = one.graph, first
    one.replay(1)
    one.graph = second
    one.replay(1)
    two.eager(5)
    same(one, two)


def test_saved_and_loaded(library: TorchOnHost, tmp_path: Any) -> None:
    """Counts are read from the device, and taken over by it; by torch's own class too."""
    one, two = trained(library, "Adam")
    for loop in (one, two):
        torch.save(loop.optimizer.state_dict(), tmp_path / "state.pt")
        saved = torch.load(tmp_path / "state.pt")
        assert float(saved["state"][0]["step"]) == STEPS
        for capturable in (True, False):
            other = Loop(library, "Adam", capturable=capturable)
            other.optimizer.load_state_dict(saved)
            other.model.load_state_dict(loop.model.state_dict())
            other.optimizer.param_groups[0]["capturable"] = capturable
            other.eager(1)
            if capturable:
                other.capture()
                other.replay(1)
            else:
                other.eager(1)
            third = copy.deepcopy(two)
            third.library, third.taken = library, 0
            third.eager(2)
            same(other, third)
    native = torch.optim.Adam(copy.deepcopy(one.model).parameters())
    native.load_state_dict(one.optimizer.state_dict())
    assert float(native.state_dict()["state"][0]["step"]) == STEPS


def test_other_settings_since(library: TorchOnHost) -> None:
    """What changes more than numbers is made ready by a step outside, and refused in a capture."""
    loop, other = Loop(library, "Adam", capturable=True), Loop(library, "Adam")
    loop.eager(1)
    loop.optimizer.param_groups[0]["clipvalue"] = 0.01
    with pytest.raises(RuntimeError, match="a CUDA graph is being captured"):
        loop.capture()
    loop.eager(1)
    loop.capture()
    loop.replay(1)
    other.eager(1)
    other.optimizer.param_groups[0]["clipvalue"] = 0.01
    other.eager(2)
    same(loop, other)
    # From here on the host counts, and a graph has no part in it.
    for each in (loop, other):
        each.optimizer.param_groups[0]["nonfinite"] = "skip"
        each.eager(1)
        each.optimizer.param_groups[0]["nonfinite"] = "ignore"
        each.eager(1)
    same(loop, other)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("Adam", {"capturable": False}, "capturable=False. Make it with capturable=True"),
    ("SGD", {"nonfinite": "skip"}, "nonfinite='skip' needs the host"),
    ("SGD", {"nonfinite": "raise"}, "nonfinite='raise' needs the host"),
    ("SGD", {"skip_spikes": 6.0}, "skip_spikes needs the host"),
    ("SGD", {"measure": ["weight"]}, "measure needs the host"),
    ("DoG", {}, "a rule with totals over all tensors needs the host"),
    ("Muon", {}, "the rule muon is no loop over elements"),
    ("Adam", {"state_dtype": "bfloat16", "stochastic_rounding": True}, "draws by a seed"),
    ("SGD", {"constraint": ao.constraints.MaxNorm(1.0), "cautious": True}, "norms of the new"),
]


@pytest.mark.parametrize(("name", "words", "said"), REFUSED, ids=str)
def test_what_a_graph_cannot_hold(
    name: str, words: dict[str, Any], said: str, library: TorchOnHost
) -> None:
    """It is said in the capture, before anything has changed; outside it is stepped as ever."""

    class Matrices(Loop):
        def groups(self) -> Any:
            return [p for p in self.model.parameters() if p.ndim == 2]

    kind = Matrices if name == "Muon" else Loop
    loop, other = kind(library, name, **{"capturable": True, **words}), kind(library, name, **words)
    loop.eager(1)
    before = loop.numbers()
    with pytest.raises(RuntimeError, match=said):
        loop.capture()
    assert all(map(torch.equal, before, loop.numbers()))
    loop.eager(1)
    other.eager(2)
    same(loop, other)


@pytest.mark.parametrize(("capturable", "said"), [(True, "before the capture"), (False, "False")])
def test_before_the_first_step(capturable: bool, said: str, library: TorchOnHost) -> None:
    """There is no state yet, and none is made."""
    loop = Loop(library, "Adam", capturable=capturable)
    with pytest.raises(RuntimeError, match=said):
        loop.capture()
    assert not loop.optimizer.state


def test_sparse_gradients(library: TorchOnHost) -> None:
    """They are stepped outside of graphs, and said to be in the way."""
    table = torch.nn.Embedding(5, 3, sparse=True)
    before = table.weight.detach().clone()
    optimizer = ao.torch.SGD(table.parameters(), lr=1.0, capturable=True)
    for _ in range(2):
        optimizer.zero_grad()
        table(torch.tensor([1, 3])).sum().backward()
        optimizer.step()
    wanted = before.clone()
    wanted[[1, 3]] -= 2.0
    torch.testing.assert_close(table.weight, wanted)
    with captured(library, Graph()), pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


def test_a_gradient_in_another_order(library: TorchOnHost) -> None:
    """It is copied in the graph."""
    p, q = (torch.nn.Parameter(torch.ones(4, 6)) for _ in range(2))
    g = torch.randn(6, 4).T
    optimizers = [ao.torch.Adam([x], capturable=c) for x, c in ((p, True), (q, False))]
    p.grad, q.grad = g, g
    for optimizer in optimizers:
        optimizer.step()
    graph = Graph()
    with captured(library, graph):
        optimizers[0].step()
    g.mul_(3.0)
    graph.replay()
    optimizers[1].step()
    assert torch.equal(p, q)


def test_after_the_optimizer_was_changed(library: TorchOnHost) -> None:
    """A graph goes on with the state that it was captured with, which lives as long as it may."""
    loop, other = Loop(library, "Adam", capturable=True), Loop(library, "Adam")
    loop.eager(2)
    loop.capture()
    loop.optimizer.load_state_dict(loop.optimizer.state_dict())
    loop.optimizer.reset()
    loop.replay(2)
    other.eager(4)
    assert all(map(torch.equal, loop.model.parameters(), other.model.parameters()))


def test_a_step_with_a_closure(library: TorchOnHost) -> None:
    """The loss is the graph's tensor."""
    loop, other = Loop(library, "Adam", capturable=True), Loop(library, "Adam")
    loop.eager(1)
    loop.optimizer.zero_grad()

    def closure() -> torch.Tensor:
        loss = loop.model(loop.inputs).square().mean()
        loss.backward()
        return loss

    with captured(library, loop.graph):
        loss = loop.optimizer.step(closure)
    loop.replay(1)
    other.eager(2)
    same(loop, other)
    assert loss.shape == ()


def test_other_hyperparameters_each_step(library: TorchOnHost) -> None:
    """A rate that a scheduler sets anew compiles nothing and makes nothing ready again."""
    loop = Loop(library, "Adam", capturable=True)
    loop.eager(2)
    counted, tables = loop.optimizer._parts[0].capturing.counted, library.only.tables
    kernels = dict(library.only._kernels)
    for step in range(4):
        loop.optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        loop.eager(1)
    assert loop.optimizer._parts[0].capturing.counted is counted
    assert library.only._kernels == kernels
    assert library.only.tables <= tables + 4, "the addresses of new gradients"
