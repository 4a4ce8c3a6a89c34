"""CUDA graphs of torch's without a GPU: what was launched is repeated, and nothing else.

Torch's own operations are recorded as they are dispatched, those of a backward pass too, and
repeated into the tensors that they gave; launches of kernels stand among them in their order. What
a device refuses while a graph is captured is refused: that the host reads a number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import arrayoptim as ao
from gpu_on_host import TorchOnHost

aten = torch.ops.aten


class Graph:
    """A graph, as ``torch.cuda.CUDAGraph``."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []

    def replay(self) -> None:
        """Repeat what was launched."""
        with torch.no_grad():
            for run in self.work:
                run()


class _Recorder(TorchDispatchMode):
    """Records torch's operations."""

    def __init__(self, work: list[Callable[[], None]]) -> None:
        super().__init__()
        self._work = work

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        outputs = [x for x in tree_leaves(found) if isinstance(x, torch.Tensor)]

        def again() -> None:
            new = [x for x in tree_leaves(func(*args, **kwargs)) if isinstance(x, torch.Tensor)]
            for old, x in zip(outputs, new, strict=True):
                if old.data_ptr() != x.data_ptr():
                    old.copy_(x)

        self._work.append(again)
        return found


@contextlib.contextmanager
def captured(library: TorchOnHost, graph: Graph) -> Iterator[None]:
    """Capture a graph, as ``torch.cuda.graph`` does."""
    library.capturing, library.only.recorded = True, graph.work
    try:
        with _Recorder(graph.work):
            yield
    finally:
        library.capturing, library.only.recorded = False, None


STEPS, BEFORE = 6, 2
INPUTS = [torch.randn(5, 4, generator=torch.Generator().manual_seed(k)) for k in range(STEPS)]


class Loop:
    """A model that is trained, by steps one by one or by a graph."""

    def __init__(self, library: TorchOnHost, name: str, dtype: Any = None, **words: Any) -> None:
        torch.manual_seed(0)
        middle = torch.nn.Linear(8, 8)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.Tanh(), middle, torch.nn.Linear(8, 3, bias=False)
        ).to(dtype)
        self.library, self.inputs = library, torch.zeros(5, 4, dtype=dtype)
        self.taken = 0
        self.optimizer = getattr(ao.torch, name)(self.groups(), **words)
        self.graph = Graph()

    def groups(self) -> Any:
        """Return what is given to the optimizer."""
        return self.model.parameters()

    def train(self) -> None:
        """Do what a graph holds."""
        self.model(self.inputs).square().mean().backward()
        self.optimizer.step()

    def eager(self, steps: int) -> None:
        """Take steps one by one."""
        for _ in range(steps):
            self.feed()
            self.optimizer.zero_grad()
            self.train()

    def capture(self) -> None:
        """Capture one."""
        self.optimizer.zero_grad(set_to_none=True)
        self.graph = Graph()
        with captured(self.library, self.graph):
            self.train()

    def replay(self, steps: int) -> None:
        """Take steps of the graph."""
        for _ in range(steps):
            self.feed()
            self.graph.replay()

    def feed(self) -> None:
        """Bring in the next inputs."""
        self.inputs.copy_(INPUTS[self.taken % STEPS])
        self.taken += 1

    def numbers(self) -> list[Any]:
        """Return parameters and state."""
        entries = self.optimizer.state.values()
        state = [entry[key] for entry in entries for key in sorted(entry)]
        return [x.detach().clone() for x in (*self.model.parameters(), *state)]


class Groups(Loop):
    """One whose optimizer has two groups of its parameters."""

    own: ClassVar[dict[str, Any]] = {"lr": 0.02}

    def groups(self) -> Any:
        first, *rest = self.model.parameters()
        return [{"params": rest}, {"params": [first], **self.own}]


def same(one: Loop, two: Loop) -> None:
    """Require the same bits of parameters and state."""
    pairs = list(zip(one.numbers(), two.numbers(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs), [torch.equal(a, b) for a, b in pairs]
