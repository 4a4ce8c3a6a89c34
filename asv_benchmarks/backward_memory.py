"""Measure the memory of training a model of 100 million parameters, with and without hooks.

Prints the most memory that a process held (the high-water mark of its resident set, which the
kernel keeps) beyond what it held when the libraries were loaded. Each way runs in a process of its
own, in which the C library gives back to the system what is freed:
``python asv_benchmarks/backward_memory.py``.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys

WAYS = ("torch", "step", "step_in_backward")
WIDTH, LAYERS = 2500, 16


def most() -> float:
    """Return the high-water mark in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str) -> None:
    """Train three steps and print the number of parameters and the memory."""
    import torch

    import arrayoptim as ao

    torch.set_num_threads(1)
    module = torch.optim if way == "torch" else ao.torch
    small = torch.nn.Linear(2, 2)
    warm = module.AdamW(small.parameters())
    small(torch.ones(2, 2)).sum().backward()
    warm.step()
    before = most()
    layers = [torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)]
    model = torch.nn.Sequential(*layers)
    optimizer = module.AdamW(model.parameters(), lr=1e-4)
    if way == "step_in_backward":
        optimizer.step_in_backward()
    for _ in range(3):
        model(torch.ones(8, WIDTH)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    count = sum(p.numel() for p in model.parameters())
    sys.stdout.write(f"{way}: {count / 1e6:.0f} M parameters, {most() - before:.0f} MiB\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        given = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
        for each in WAYS:
            subprocess.run([sys.executable, __file__, each], env=given, check=True)
