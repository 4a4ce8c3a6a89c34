"""The machine, and what is installed on it."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ["arrayoptim", "numpy", "numba", "torch", "deepspeed", "jax", "optax", "keras", "thinc"]


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """Return the model of the CPU, and how many of its cores are used."""
    model = platform.processor() or platform.machine()
    path = Path("/proc/cpuinfo")
    if path.exists():
        lines = [line.split(":", 1) for line in path.read_text().splitlines() if ":" in line]
        model = {key.strip(): value.strip() for key, value in lines}.get("model name", model)
    return f"{model}, {cores()} core{'s' if cores() > 1 else ''}"


def versions() -> dict[str, str]:
    """Return the version of Python and of each package that is installed."""
    found = {"Python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if "arrayoptim" not in found:  # run from a source tree
        import arrayoptim

        found["arrayoptim"] = arrayoptim.__version__
    return found


def free_memory() -> float:
    """Return the bytes that can still be taken; infinity where the system does not say."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return float("inf")
    rows = dict(line.split(":", 1) for line in path.read_text().splitlines())
    return 1024 * float(rows["MemAvailable"].split()[0])
