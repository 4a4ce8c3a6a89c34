"""Train over MPI: ``mpiexec -n 4 python -m mpi4py mpi_training.py run.h5``.

Started again it goes on where it was, on any number of processes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import arrayoptim as ao
from arrayoptim.mpi import DataParallel

STEPS, ROWS = 60, 240  # rows of data in a step, which 1 to 6 processes share evenly


def slopes(params, step, rank, world):
    """Return loss and gradients of the rows that belong to a process."""
    rng = np.random.default_rng(step)
    x = rng.standard_normal((ROWS, 5))
    y = np.tanh(x @ np.arange(1.0, 6.0) / 10)
    x, y = (np.array_split(data, world)[rank] for data in (x, y))
    hidden = np.tanh(x @ params["in"] + params["bias"])
    error = hidden @ params["out"] - y
    back = np.outer(error, params["out"]) * (1 - hidden**2)
    grads = {"in": x.T @ back, "bias": back.sum(axis=0), "out": hidden.T @ error}
    return np.mean(error**2), {name: g / len(y) for name, g in grads.items()}


def main(path):
    """Train, save ten times, and return the last loss."""
    rng = np.random.default_rng(0)
    params = {"in": rng.standard_normal((5, 8)) / 2, "bias": np.zeros(8), "out": np.zeros(8)}
    optimizer, first, loss = DataParallel(ao.Adam(lr=0.05, clipnorm=1.0)), 0, None
    if Path(path).exists():
        params, optimizer, extra = ao.load_checkpoint(path, params, optimizer)
        first = extra["step"] + 1
    for step in range(first, STEPS):
        loss, grads = slopes(params, step, optimizer.rank, optimizer.world)
        optimizer.apply(grads, params)
        if step % 6 == 5:
            ao.save_checkpoint(path, params, optimizer, step=step)
    return loss


if __name__ == "__main__":
    found = main(sys.argv[1])
    if found is not None:
        print(f"loss {found:.4f}")
