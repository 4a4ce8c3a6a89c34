"""CUDA graphs of torch's without a GPU: what was launched is repeated, and nothing else.

Torch's own operations are recorded as they are dispatched, those of a backward pass too, and
repeated into the tensors that they gave; launches of kernels stand among them in their order. What
a device refuses while a graph is captured is refused: that the host reads a number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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
