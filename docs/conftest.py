"""Pages whose examples need more than NumPy run where what they need is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "examples"))
sys.path.append(str(Path(__file__).parents[1] / "tests"))

from arrayoptim.engines.gpu.device import obstacle
from gpu_on_host import compiler

NEEDS = {
    "adapters/foreign.rst": ("torch",),
    "adapters/keras.rst": ("keras", "torch"),
    "adapters/mpi.rst": ("mpi4py",),
    "adapters/optax.rst": ("jax", "optax"),
    "adapters/scipy.rst": ("scipy",),
    "adapters/torch.rst": ("torch",),
    "backends_and_dtypes.rst": ("jax", "ml_dtypes", "torch"),
    "coming_from/keras3.rst": ("keras", "torch"),
    "coming_from/optax.rst": ("jax", "optax"),
    "coming_from/torch.rst": ("torch",),
}
collect_ignore = [page for page, modules in NEEDS.items() if not all(map(find_spec, modules))]
collect_ignore += [
    "_build",
    "coming_from/programs",  # whole programs, each run by tests/project/test_programs.py
    "demo",
    "examples",
    "gallery",
    "conf.py",
    "conftest.py",
    "optimizers/generated",
]
collect_ignore += ["optimizer_pages.py"]  # needs Sphinx
collect_ignore += ["cupy.rst"] if obstacle() and compiler() is None else []


@pytest.fixture(autouse=True)
def cupy(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let there be a CuPy on the host where the page about it finds no GPU."""
    if request.path.name != "cupy.rst" or obstacle() is None:
        yield
        return
    from cupy_on_host import installed

    with installed():
        yield
