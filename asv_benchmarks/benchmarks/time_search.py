"""What whole searches of L-BFGS cost, in machine code and on arrays."""

from __future__ import annotations

import numpy as np
from race.searches import rosenbrock

import arrayoptim as ao


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
