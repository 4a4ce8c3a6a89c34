"""The limit: as many bytes as the step has to move, streamed by all cores with no arithmetic.

The memory streamed through is as large as the arrays of the step, so that caches serve both alike.
Which way of streaming is fastest differs between machines: each is tried, and the fastest runs.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ..machine import cores
from ..peer import Stepper, Task
from ..shapes import elements

Array = NDArray[np.float32]
Copy = Callable[[Array, Array], object]


def make(task: Task) -> Stepper:
    """Take the fastest way."""
    count = elements(task.shape)
    memory = np.ones(int(count * task.held / 4), np.float32)
    steps = _ways(memory, int(count * task.moved / 8))
    times = {name: median(_seconds(step) for _ in range(5)) for name, step in steps.items()}
    best = min(times, key=times.__getitem__)
    return Stepper(steps[best], note=best)


def _ways(memory: Array, floats: int) -> dict[str, Callable[[], object]]:
    """Return what reads and writes so many floats, by name."""
    ways = {
        "NumPy copy": _copying(memory, floats, _copy),
        "NumPy copy in threads": _copying(memory, floats, _threaded()),
    }
    if find_spec("torch"):
        import torch

        whole = torch.from_numpy(memory)[:floats]
        ways["torch `mul_` in place"] = lambda: whole.mul_(1.0)
        ways["torch `copy_`"] = _copying(
            memory, floats, lambda a, b: torch.from_numpy(b).copy_(torch.from_numpy(a))
        )
    return ways


def _copying(memory: Array, floats: int, copy: Copy) -> Callable[[], object]:
    size = len(memory) // 2
    lengths = [min(size, floats - start) for start in range(0, floats, size)]
    parts = [(memory[:n], memory[size : size + n]) for n in lengths]

    def step() -> None:
        for source, target in parts:
            copy(source, target)

    return step


def _copy(source: Array, target: Array) -> None:
    np.copyto(target, source)


def _threaded() -> Copy:
    pool = ThreadPoolExecutor(cores())

    def copy(source: Array, target: Array) -> None:
        sources, targets = np.array_split(source, cores()), np.array_split(target, cores())
        list(pool.map(_copy, sources, targets))

    return copy


def _seconds(step: Callable[[], object]) -> float:
    start = perf_counter()
    step()
    return perf_counter() - start
