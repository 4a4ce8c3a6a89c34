"""Saves that are killed: the file is whole, and the next save leaves nothing beside it."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import numpy as np

import arrayoptim as ao
from torture.batches import serve

SIZE = 50_000
SAVES = 2


def saved(path: Path, steps: int) -> ao.Optimizer:
    """Save an optimizer whose whole state tells the number of its steps."""
    optimizer = ao.Adam()
    optimizer.init([np.zeros(SIZE, "f4"), np.zeros(3)])
    optimizer.set_weights(
        [np.int64(steps), *[np.full_like(w, steps) for w in optimizer.weights[1:]]]
    )
    optimizer.save_weights(path)
    return optimizer


def case(number: int, folder: Path) -> str:
    """Kill a process that saves over and over, at a moment of chance."""
    chance, path = random.Random(number), folder / "w.h5"
    start = time.perf_counter()
    saved(path, 1)
    unit = time.perf_counter() - start
    child = os.fork()
    if child == 0:
        steps = 2
        while True:
            saved(path, steps)
            steps += 1
    time.sleep(chance.uniform(0, SAVES * unit))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        found = ao.load(path)
        steps = found.iterations
        whole = all((x == steps).all() for x in found.get_weights())
    except Exception as error:
        return f"lost: {type(error).__name__}"
    before = len(list(folder.iterdir())) - 1
    saved(path, 1)
    if len(list(folder.iterdir())) > 1:
        return "left over"
    if not whole:
        return "lost: mixed"
    return "whole, cleaned after" if before else "whole"


if __name__ == "__main__":
    serve(case)
