"""Parameter groups whose steps are to be in CUDA graphs: numbers on the device, groups aside."""

from __future__ import annotations

import gc
from typing import Any, ClassVar

import pytest
import torch

import arrayoptim as ao
from arrayoptim.engines.gpu.arrays import LIBRARIES
from gpu_on_host import TorchOnHost, compiler
from torch_graphs import Graph, Groups, Loop, captured, same

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> TorchOnHost:
    """Take torch tensors of the CPU for those of a GPU."""
    found = TorchOnHost()
    monkeypatch.setitem(LIBRARIES, "torch", found)
    return found


class Rates:
    """A loop whose rate is a tensor on the device, and one whose rate is a number."""

    def __init__(self, library: TorchOnHost, **words: Any) -> None:
        self.rate = torch.tensor(0.1, dtype=torch.float64)
        self.one = Loop(library, "Adam", capturable=True, lr=self.rate, **words)
        self.two = Loop(library, "Adam", lr=0.1, **words)

    def set(self, value: float) -> None:
        """Write a rate, as schedulers do."""
        self.rate.fill_(value)
        self.put("lr", value, only=self.two)

    def put(self, key: str, value: Any, only: Loop | None = None) -> None:
        """Set something in the group."""
        for loop in (self.one, self.two) if only is None else (only,):
            loop.optimizer.param_groups[0][key] = value

    def step(self) -> None:
        """Step both outside of graphs, to the same bits."""
        self.one.eager(1)
        self.two.eager(1)
        same(self.one, self.two)
        assert self.one.optimizer.last_step == self.two.optimizer.last_step


@pytest.mark.parametrize(
    "words",
    [
        {"nonfinite": "skip"},
        {"state_dtype": "bfloat16", "stochastic_rounding": True},
    ],
    ids=str,
)
def test_a_rate_that_the_host_reads(words: dict[str, Any], library: TorchOnHost) -> None:
    """Where no graph can hold the step, what was written into a tensor counts all the same."""
    rates = Rates(library, **words)
    for value in (0.1, 0.05, 0.01):
        rates.set(value)
        rates.step()


def test_a_rate_read_here_and_there(library: TorchOnHost) -> None:
    """Whoever reads it after settings have changed has its present value."""
    rates = Rates(library)
    rates.step()
    rates.set(0.05)
    rates.put("nonfinite", "skip")
    rates.step()
    rates.set(0.02)
    rates.step()
    rates.put("nonfinite", "ignore")
    rates.step()
    rates.one.capture()
    rates.set(0.03)
    rates.one.replay(2)
    rates.two.eager(2)
    same(rates.one, rates.two)
    assert rates.one.optimizer.last_step == rates.two.optimizer.last_step


def test_a_number_in_place_of_a_tensor(library: TorchOnHost) -> None:
    """It counts, and the tensor no longer, though it is what the tensor held at first."""
    rates = Rates(library)
    rates.step()
    rates.set(0.05)
    rates.step()
    rates.put("lr", 0.1)
    rates.step()
    rates.rate.fill_(7.0)
    rates.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes_of_rates(dtype: torch.dtype, library: TorchOnHost) -> None:
    """Kernels read all that have a floating point."""
    one = Loop(library, "SGD", capturable=True, lr=torch.tensor(0.5, dtype=dtype))
    two = Loop(library, "SGD", lr=0.5)
    one.eager(1)
    one.capture()
    one.replay(2)
    two.eager(3)
    same(one, two)


def test_tensors_that_no_kernel_reads(library: TorchOnHost) -> None:
    """The host reads them, and a capture names them."""
    rates = Rates(library)
    rates.step()
    rates.put("lr", torch.tensor(1), only=rates.one)
    with pytest.raises(RuntimeError, match="captured"):
        rates.one.capture()
    rates.put("lr", 1.0, only=rates.two)
    rates.step()
    with pytest.raises(RuntimeError, match=r"lr is a tensor of torch\.int64"):
        rates.one.capture()
    decay = torch.tensor(0.1, dtype=torch.float64)
    loop = Loop(library, "AdamW", capturable=True, weight_decay=decay)
    other = Loop(library, "AdamW", weight_decay=0.1)
    loop.eager(1)
    other.eager(1)
    same(loop, other)
    with pytest.raises(RuntimeError, match="weight_decay is a tensor on"):
        loop.capture()


def test_a_rate_before_the_first_step(library: TorchOnHost) -> None:
    """It is not read in a capture, which says what is missing."""
    loop = Loop(library, "Adam", capturable=True, lr=torch.tensor(0.1))
    with pytest.raises(RuntimeError, match="before the capture"):
        loop.capture()


class Frozen(Groups):
    """One whose second group has no gradient."""

    def train(self) -> None:
        """Do what a graph holds."""
        next(self.model.parameters()).requires_grad_(False)
        super().train()


@pytest.mark.parametrize("clipnorm", [None, 0.1])
@pytest.mark.parametrize("others", [{}, {"capturable": False}, {"nonfinite": "ignore"}], ids=str)
def test_a_group_without_gradients(
    clipnorm: float | None, others: dict[str, Any], library: TorchOnHost
) -> None:
    """It is no part of the step, and does not stand in the way of a graph."""

    class Own(Frozen):
        own: ClassVar[dict[str, Any]] = {"lr": torch.tensor(0.02), **others}

    one = Own(library, "AdamW", capturable=True, clipnorm=clipnorm)
    two = Frozen(library, "AdamW", clipnorm=clipnorm)
    one.eager(2)
    one.capture()
    one.replay(2)
    two.eager(4)
    same(one, two)


def test_a_group_after_a_capture(library: TorchOnHost) -> None:
    """It steps outside of graphs, and the graph, whose norm is of the others, goes on."""
    one, two = (Groups(library, "AdamW", capturable=c, clipnorm=0.1) for c in (True, False))
    one.eager(1)
    one.capture()
    one.replay(1)
    two.eager(2)
    extra = []
    for loop in (one, two):
        extra.append(torch.nn.Parameter(torch.ones(3)))
        loop.optimizer.add_param_group({"params": [extra[-1]]})
        extra[-1].grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="before the capture"), captured(library, Graph()):
        one.optimizer.step()
    gradients = [p.grad for p in one.model.parameters()]
    for loop, p in zip((one, two), extra, strict=True):
        loop.feed()
        loop.optimizer.zero_grad()
        p.grad = torch.ones(3)
        loop.train()
        p.grad = None
    same(one, two)
    assert torch.equal(*extra) and not torch.equal(extra[0], torch.ones(3))
    for p, g in zip(one.model.parameters(), gradients, strict=True):
        p.grad = g
    gc.collect()
    one.replay(2)
    two.eager(2)
    same(one, two)


def test_a_group_of_sparse_gradients(library: TorchOnHost) -> None:
    """With a norm over all groups, all step as ever, and a capture says why."""

    def made(capturable: bool) -> tuple[Any, ...]:
        torch.manual_seed(0)
        table, w = torch.nn.Embedding(5, 3, sparse=True), torch.nn.Parameter(torch.ones(3))
        groups = [{"params": [w]}, {"params": table.parameters()}]
        rate = torch.tensor(0.1, dtype=torch.float64) if capturable else 0.1
        return table, w, ao.torch.SGD(groups, lr=rate, clipnorm=0.1, capturable=capturable)

    both = made(True), made(False)
    for step in range(3):
        for table, w, optimizer in both:
            optimizer.zero_grad()
            if step == 1:
                w.grad, table.weight.grad = torch.ones(3), torch.ones(5, 3)
            else:
                (table(torch.tensor([1, 3])) * w).sum().backward()
            optimizer.step()
    one, two = both
    assert torch.equal(one[1], two[1]) and torch.equal(one[0].weight, two[0].weight)
    with captured(library, Graph()), pytest.raises(RuntimeError, match="norm of sparse"):
        one[2].step()


def test_capturable_set_later(library: TorchOnHost) -> None:
    """Counts move to the host, and back."""
    one, two = Loop(library, "NAdam", capturable=True), Loop(library, "NAdam")
    one.eager(1)
    one.capture()
    one.replay(1)
    one.optimizer.param_groups[0]["capturable"] = False
    one.eager(1)
    one.optimizer.param_groups[0]["capturable"] = True
    one.eager(1)
    one.capture()
    one.replay(1)
    two.eager(5)
    same(one, two)
    assert one.optimizer.last_step == two.optimizer.last_step
