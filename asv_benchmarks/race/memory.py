"""How much memory a step takes beyond parameters, gradients and state."""

from __future__ import annotations

import gc
import multiprocessing
import tracemalloc
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
OPTIONS: dict[str, dict[str, Any]] = {
    "Adam": {},
    "Adam, clip, decay, average": {"clipnorm": 1.0, "weight_decay": 0.01, "ema_momentum": 0.999},
}


def peak(shape: str, name: str) -> tuple[float, float | None]:
    """Return the bytes that Python and NumPy asked for, and the growth of the process's peak.

    In a fresh process, after steps that compile and allocate what stays. The second is None where
    the system does not tell.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (shape, OPTIONS[name]))


def _peak(shape: str, options: dict[str, Any]) -> tuple[float, float | None]:
    import arrayoptim as ao

    from .shapes import arrays

    params, grads = list(arrays(shape, 0, 0.02)), list(arrays(shape, 1, 0.01))
    opt = ao.Adam(**options)
    for _ in range(3):
        opt.apply(grads, params)
    gc.collect()
    grown = None
    if CLEAR.exists():
        CLEAR.write_text("5")  # Linux: sets the peak back to what is resident now
        before = _resident("VmRSS")
        for _ in range(3):
            opt.apply(grads, params)
        grown = _resident("VmHWM") - before
    tracemalloc.start()
    opt.apply(grads, params)
    asked = float(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    return asked, grown


def _resident(field: str) -> float:
    line = next(row for row in STATUS.read_text().splitlines() if row.startswith(field))
    return 1024 * float(line.split()[1])
