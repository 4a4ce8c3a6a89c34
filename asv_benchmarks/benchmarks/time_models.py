"""What one step of many small models costs, beside as many steps of single ones."""

from __future__ import annotations

from typing import Any

import numpy as np

import arrayoptim as ao

SHAPES: dict[str, tuple[int, ...]] = {"w": (8, 16), "b": (16,), "v": (16, 1), "c": (1,)}


class ManyModels:
    params = ([8, 64, 512], ["plain", "clip, decay"], ["at once", "one by one"])
    param_names = ("models", "options", "way")

    def setup(self, models: int, options: str, way: str) -> None:
        random, rates = np.random.default_rng(0), np.geomspace(1e-4, 1e-1, models).tolist()
        decays = np.linspace(0.0, 0.1, models).tolist()
        clips = options != "plain"
        arrays: Any = [
            {k: random.normal(size=(models, *n)).astype(np.float32) for k, n in SHAPES.items()}
            for _ in range(2)
        ]
        if way == "at once":
            more: dict[str, Any] = {"clipnorm": 1.0, "weight_decay": decays} if clips else {}
            self.rows = [(ao.Adam(rates, models=models, **more), *arrays)]
        else:
            self.rows = []
            for m in range(models):
                own: dict[str, Any] = {"clipnorm": 1.0, "weight_decay": decays[m]} if clips else {}
                parts = [{k: x[m].copy() for k, x in tree.items()} for tree in arrays]
                self.rows.append((ao.Adam(rates[m], **own), *parts))
        self.time_step(models, options, way)

    def time_step(self, models: int, options: str, way: str) -> None:
        for optimizer, grads, params in self.rows:
            optimizer.apply(grads, params)
