"""What a step costs whose gradient has some rows of a table only."""

from __future__ import annotations

import numpy as np

import arrayoptim as ao

WIDTH, ROWS = 64, 4096


class Sparse:
    params = ([10_000, 1_000_000], ["lazy", "exact"])
    param_names = ("table", "sparse")

    def setup(self, count: int, mode: str) -> None:
        random = np.random.default_rng(0)
        self.table = np.zeros((count, WIDTH), np.float32)
        rows = random.standard_normal((ROWS, WIDTH)).astype(np.float32)
        self.gradient = ao.Rows(random.integers(0, count, ROWS), rows, self.table.shape)
        self.optimizer = ao.Adam(sparse=mode)
        self.optimizer.apply(self.gradient, self.table)

    def time_step(self, count: int, mode: str) -> None:
        self.optimizer.apply(self.gradient, self.table)
