"""What whole searches of L-BFGS cost, in machine code and on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

import arrayoptim as ao


def rosenbrock(x: Any) -> Any:
    """Return the values along the last axis, and their gradients."""
    away, gradients = x[..., 1:] - x[..., :-1] ** 2, np.zeros_like(x)
    gradients[..., 1:] += 200 * away
    gradients[..., :-1] -= 400 * x[..., :-1] * away + 2 * (1 - x[..., :-1])
    return (100 * away**2 + (1 - x[..., :-1]) ** 2).sum(-1), gradients


class Searches:
    params = (["10", "1000", "100 x 10"], ["auto", "array"])
    param_names = ("numbers", "engine")

    def setup(self, numbers: str, engine: str) -> None:
        sizes = [int(size) for size in numbers.split(" x ")]
        self.starts = np.random.default_rng(0).normal(size=sizes)
        self.time_search(numbers, engine)

    def time_search(self, numbers: str, engine: str) -> None:
        with ao.engine(engine):
            ao.LBFGS(batched="x" in numbers).solve(rosenbrock, self.starts.copy(), 200)
