"""What a step costs in each engine, with each stage, and with its state in fewer bits."""

from __future__ import annotations

from typing import Any

import numpy as np

import arrayoptim as ao

SHAPES = {
    "1000 x 256": [(256,)] * 1000,
    "MLP 784-512-256-10": [(784, 512), (512,), (512, 256), (256,), (256, 10), (10,)],
    "10 x 1000000": [(1_000_000,)] * 10,
}
STAGES: dict[str, dict[str, Any]] = {
    "none": {},
    "clip by norm": {"clipnorm": 1.0},
    "decay": {"weight_decay": 0.01},
    "average": {"ema_momentum": 0.999},
    "all three": {"clipnorm": 1.0, "weight_decay": 0.01, "ema_momentum": 0.999},
}


class Adam:
    """Steps of Adam; the first is taken in `setup`, since it compiles."""

    def start(self, engine: str, shapes: str, **options: Any) -> None:
        random = np.random.default_rng(0)
        self.arrays = [random.standard_normal(s).astype(np.float32) for s in SHAPES[shapes]]
        self.grads = [random.standard_normal(s).astype(np.float32) for s in SHAPES[shapes]]
        self.optimizer, self.engine = ao.Adam(**options), engine
        self.step()

    def step(self) -> None:
        with ao.engine(self.engine):
            self.optimizer.apply(self.grads, self.arrays)


class Engine(Adam):
    params = (["array", "cpu"], list(SHAPES))
    param_names = ("engine", "parameters")

    def setup(self, engine: str, shapes: str) -> None:
        self.start(engine, shapes)

    def time_step(self, engine: str, shapes: str) -> None:
        self.step()


class Stages(Adam):
    params = (list(STAGES), list(SHAPES))
    param_names = ("stages", "parameters")

    def setup(self, stages: str, shapes: str) -> None:
        self.start("cpu", shapes, **STAGES[stages])

    def time_step(self, stages: str, shapes: str) -> None:
        self.step()


class State(Adam):
    params = ([None, "bfloat16", "int8"], [False, True], list(SHAPES))
    param_names = ("state_dtype", "stochastic_rounding", "parameters")

    def setup(self, state_dtype: str | None, chance: bool, shapes: str) -> None:
        self.start("cpu", shapes, state_dtype=state_dtype, stochastic_rounding=chance)

    def time_step(self, state_dtype: str | None, chance: bool, shapes: str) -> None:
        self.step()


class Threads(Adam):
    params = ([1, 2, 4], list(SHAPES))
    param_names = ("threads", "parameters")

    def setup(self, threads: int, shapes: str) -> None:
        self.start("cpu", shapes, threads=threads)

    def time_step(self, threads: int, shapes: str) -> None:
        self.step()


class Matrices:
    """Steps of optimizers that see a matrix as a whole."""

    params = (["array", "cpu"], ["Adafactor", "SM3"])
    param_names = ("engine", "optimizer")

    def setup(self, engine: str, name: str) -> None:
        random, shapes = np.random.default_rng(0), [(768, 768), (768, 3072), (3072, 768), (64, 576)]
        self.arrays = [random.standard_normal(s).astype(np.float32) for s in shapes]
        self.grads = [random.standard_normal(s).astype(np.float32) for s in shapes]
        self.optimizer = ao.get(name)
        self.time_step(engine, name)

    def time_step(self, engine: str, name: str) -> None:
        with ao.engine(engine):
            self.optimizer.apply(self.grads, self.arrays)
