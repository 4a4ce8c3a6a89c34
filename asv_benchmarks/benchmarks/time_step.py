"""What a step costs, for every registered optimizer, and what the import costs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

import arrayoptim as ao

SHAPES = {
    "1 x 1000000": [(1_000_000,)],
    "1000 x 256": [(256,)] * 1000,
    "4 layers": [(784, 512), (512,), (512, 10), (10,)],
}


class Step:
    params = (ao.names(), list(SHAPES))
    param_names = ("optimizer", "parameters")

    def setup(self, name: str, shapes: str) -> None:
        random = np.random.default_rng(0)
        self.arrays = [random.standard_normal(s).astype(np.float32) for s in SHAPES[shapes]]
        self.grads = [random.standard_normal(s).astype(np.float32) for s in SHAPES[shapes]]
        self.optimizer = ao.get(name)
        self.optimizer.apply(self.grads, self.arrays)

    def time_step(self, name: str, shapes: str) -> None:
        self.optimizer.apply(self.grads, self.arrays)


class StepClipped(Step):
    def setup(self, name: str, shapes: str) -> None:
        super().setup(name, shapes)
        self.optimizer.clipnorm = 1.0
        self.optimizer.apply(self.grads, self.arrays)


_TIME_IMPORT = (
    "import time; start = time.perf_counter(); import arrayoptim; "
    "print(time.perf_counter() - start)"
)


def track_import_time() -> float:
    """Return the least of five, in fresh processes."""
    runs = [
        subprocess.run(
            [sys.executable, "-c", _TIME_IMPORT], capture_output=True, check=True, text=True
        )
        for _ in range(5)
    ]
    return min(float(run.stdout) for run in runs)


track_import_time.unit = "seconds"  # type: ignore[attr-defined]
