"""What a step costs on the host beside its arithmetic: calls, modules entered, microseconds."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any, ClassVar

import numpy as np

import arrayoptim as ao

ROOT = str(Path(ao.__file__).parent)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clip, average, schedule": {
        "clipnorm": 1.0,
        "ema_momentum": 0.99,
        "lr": ao.schedules.ExponentialDecay(0.1, 100, 0.9),
    },
}


class HostPart:
    """Steps of Adam over tensors of four numbers, with gradients in fresh arrays."""

    params: ClassVar = ([1, 4, 32, 256, 1000], list(OPTIONS))
    param_names = ("tensors", "options")

    @staticmethod
    def _array() -> Any:
        return np.ones(4, np.float32)

    def setup(self, tensors: int, options: str) -> None:
        self.arrays = [self._array() for _ in range(tensors)]
        self.grads = [[self._array() for _ in range(tensors)] for _ in range(8)]
        self.optimizer = ao.Adam(**OPTIONS[options])
        for grads in self.grads:
            self._step(grads)

    def _step(self, grads: list[Any]) -> None:
        self.optimizer.apply(grads, self.arrays)

    def track_microseconds(self, tensors: int, options: str) -> float:
        found = []
        for _ in range(200):
            start = time.perf_counter()
            for grads in self.grads:
                self._step(grads)
            found.append((time.perf_counter() - start) / len(self.grads))
        return 1e6 * median(found)

    def track_calls(self, tensors: int, options: str) -> int:
        return len(self._entered())

    def track_modules(self, tensors: int, options: str) -> int:
        return len(set(self._entered()))

    def _entered(self) -> list[str]:
        """Return the file of each function of the library that a step calls."""
        found = []

        def note(frame: FrameType, event: str, arg: Any) -> None:
            if event == "call" and frame.f_code.co_filename.startswith(ROOT):
                found.append(frame.f_code.co_filename)

        sys.setprofile(note)
        try:
            self._step(self.grads[0])
        finally:
            sys.setprofile(None)
        return found


class HostPartOfTorch(HostPart):
    """The same by `arrayoptim.torch.Adam`, whose gradients are put into the parameters."""

    params: ClassVar = ([1, 4, 32, 256, 1000], ["plain"])

    def setup(self, tensors: int, options: str) -> None:
        try:
            import torch
        except ModuleNotFoundError as error:
            raise NotImplementedError("torch is not installed") from error
        self.arrays = [torch.nn.Parameter(torch.ones(4)) for _ in range(tensors)]
        self.grads = [[torch.ones(4) for _ in range(tensors)] for _ in range(8)]
        self.optimizer = ao.torch.Adam(self.arrays)
        for grads in self.grads:
            self._step(grads)

    def _step(self, grads: list[Any]) -> None:
        for p, g in zip(self.arrays, grads, strict=True):
            p.grad = g
        self.optimizer.step()


class HostPartOnGPU(HostPart):
    """The same over CuPy's arrays, where there is a GPU; its work is not waited for."""

    @staticmethod
    def _array() -> Any:
        try:
            import cupy

            return cupy.ones(4, np.float32)
        except Exception as error:  # no package, no driver or no device: errors of their own
            raise NotImplementedError("there is no GPU for CuPy") from error


HostPart.track_microseconds.unit = "us"  # type: ignore[attr-defined]
HostPart.track_calls.unit = "calls"  # type: ignore[attr-defined]
HostPart.track_modules.unit = "modules"  # type: ignore[attr-defined]
