"""Whole searches of L-BFGS, of this library and of SciPy, on Rosenbrock's function.

They run in one process, in turns, with one thread: what counts is the time around the function.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

import numpy as np
from benchmarks.time_search import rosenbrock

SIZES = (10, 100, 1000)
PROBLEMS = 100
Way = Callable[[], int]


def found(rounds: int) -> list[tuple[str, str, int, float, float, float]] | None:
    """Return what each way has taken; None without SciPy.

    Each row holds the problem, the way, its evaluations, the least time of an evaluation in
    seconds, and the least and the median time of the search in multiples of SciPy's.
    """
    if find_spec("scipy") is None:
        return None
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    told = subprocess.run(
        [sys.executable, "-m", "race.searches", str(rounds)],
        env={**os.environ, **threads},
        cwd=Path(__file__).parents[1],
        check=True,
        stdout=subprocess.PIPE,
    )
    return [tuple(row) for row in json.loads(told.stdout)]


def measured(rounds: int) -> list[tuple[str, str, int, float, float, float]]:
    """Measure all ways, here and now."""
    rows = []
    for title, ways, scale in [*map(_alone, SIZES), _batch()]:
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        counts = {name: way() for name, way in ways.items()}
        for _ in range(max(3, rounds * SIZES[0] // scale)):
            for name, way in ways.items():
                start = thread_time()
                way()
                seconds[name].append(thread_time() - start)
        theirs = seconds["SciPy, L-BFGS-B"]
        for name, own in seconds.items():
            ratios = min(own) / min(theirs), median(own) / median(theirs)
            rows.append((title, name, counts[name], min(own) / counts[name], *ratios))
    return rows


def _alone(size: int) -> tuple[str, dict[str, Way], int]:
    """Return the ways of one problem, with the function that SciPy has of it."""
    import scipy.optimize as scipy

    import arrayoptim as ao
    import arrayoptim.scipy

    start = np.full(size, -1.2)
    options = {"gtol": 1e-8, "ftol": 0, "maxfun": 10**6, "maxiter": 10**6}

    def both(x: Any) -> Any:
        return scipy.rosen(x), scipy.rosen_der(x)

    def theirs() -> int:
        found = scipy.minimize(both, start, jac=True, method="L-BFGS-B", options=options)
        return int(found.nfev)

    def solved() -> int:
        optimizer = ao.LBFGS(gtol=1e-8)
        optimizer.solve(both, start.copy())
        return optimizer.iterations

    def minimized() -> int:
        found = ao.minimize(both, start.copy(), ao.LBFGS(gtol=1e-8), steps=10**6)
        return int(found.steps)

    def method() -> int:
        ours: Any = arrayoptim.scipy.LBFGS()
        return int(scipy.minimize(both, start, jac=True, method=ours, options={"gtol": 1e-8}).nfev)

    ways = {
        "SciPy, L-BFGS-B": theirs,
        "this library, `LBFGS.solve`": solved,
        "this library, `ao.minimize`": minimized,
        "this library, as a method of SciPy's `minimize`": method,
    }
    return f"{size:,} numbers", ways, size


def _batch() -> tuple[str, dict[str, Way], int]:
    """Return the ways of many problems of ten numbers."""
    import scipy.optimize as scipy

    import arrayoptim as ao

    starts = np.random.default_rng(0).normal(size=(PROBLEMS, 10))
    options = {"gtol": 1e-5, "ftol": 0}

    def theirs() -> int:
        found = (
            scipy.minimize(rosenbrock, x, jac=True, method="L-BFGS-B", options=options)
            for x in starts
        )
        return sum(int(each.nfev) for each in found)

    def ours() -> int:
        optimizer = ao.LBFGS(batched=True)
        optimizer.solve(rosenbrock, starts.copy())
        return optimizer.iterations

    ways = {"SciPy, L-BFGS-B": theirs, "this library, `LBFGS(batched=True)`": ours}
    return f"{PROBLEMS} problems of 10 numbers", ways, 50


if __name__ == "__main__":
    json.dump(measured(int(sys.argv[1])), sys.stdout)
