"""``info``: versions, array libraries and engines of this installation."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
from dataclasses import asdict

from .. import __version__
from ..arrays.libraries import NAMES
from ..engines.gpu.device import obstacle
from .backends import Probe, installed, probe
from .table import table

LIBRARIES = (*NAMES, "tensorflow", "mlx", "dpnp")
"""The array libraries that are supported; the demo leaves out the last."""

PACKAGES = ("numpy", "numba", "h5py", "optree", "array-api-compat")


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : argparse.Namespace
        The command line.

    Returns
    -------
    int
        0.
    """
    backends = [probe(name) for name in LIBRARIES]
    engines = [_array(), _cpu(), _gpu()]
    if arguments.json:
        content = {
            "versions": versions(),
            "backends": {found.name: _entry(found) for found in backends},
            "engines": {found.name: _entry(found) for found in engines},
        }
        print(json.dumps(content, indent=1))
        return 0
    print(table(("package", "version"), [(k, v or "not installed") for k, v in versions().items()]))
    print()
    rows = [(b.name, _version(b.name) or "-", _yes(b), b.note) for b in backends]
    print(table(("array library", "version", "usable", "device, or what is in the way"), rows))
    print()
    rows3 = [(engine.name, _yes(engine), engine.note) for engine in engines]
    print(table(("engine", "usable", "what it serves, or what is in the way"), rows3))
    return 0


def versions() -> dict[str, str | None]:
    """Return versions by name, without importing anything.

    Returns
    -------
    dict
        The versions; None for packages that are not installed.
    """
    ours = {"arrayoptim": __version__, "Python": platform.python_version()}
    return ours | {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    """Return the version of a distribution."""
    # CuPy's wheels have the CUDA version in their names, TensorFlow's may have "cpu".
    candidates = [name, f"{name}-cpu", *(f"{name}-cuda{major}x" for major in (11, 12, 13))]
    found = [d for c in candidates for d in importlib.metadata.distributions(name=c)]
    return found[0].version if found else None


def _entry(found: Probe) -> dict[str, object]:
    entry = asdict(found)
    version = _version(entry.pop("name"))
    return entry | ({"version": version} if version else {})


def _yes(found: Probe) -> str:
    return "yes" if found.usable else "no"


def _array() -> Probe:
    return Probe("array", True, "every array library, JAX arrays by way of jax.jit")


def _cpu() -> Probe:
    """Return whether Numba works."""
    if not installed("numba"):
        return Probe("cpu", False, "needs Numba: not installed")
    try:
        import numba

        threads = int(numba.get_num_threads())
    except Exception as error:  # a broken installation may raise anything
        return Probe("cpu", False, f"import of Numba fails with {type(error).__name__}: {error}")
    return Probe("cpu", True, f"NumPy arrays, torch tensors on the CPU; {threads} threads")


def _gpu() -> Probe:
    """Return whether kernels can be launched on a GPU, or why not."""
    reason = obstacle()
    if reason is None:
        return Probe("gpu", True, "CuPy arrays, torch tensors on GPUs")
    return Probe("gpu", False, f"{reason}; the array engine serves arrays on GPUs")
