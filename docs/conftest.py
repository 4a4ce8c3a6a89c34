"""Pages whose examples need more than NumPy run where what they need is installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "examples"))
NEEDS = {
    "adapters/foreign.rst": ("torch",),
    "adapters/keras.rst": ("keras", "torch"),
    "adapters/optax.rst": ("jax", "optax"),
    "adapters/scipy.rst": ("scipy",),
    "adapters/torch.rst": ("torch",),
    "backends_and_dtypes.rst": ("jax", "ml_dtypes", "torch"),
    "coming_from/keras3.rst": ("keras", "torch"),
    "coming_from/optax.rst": ("jax", "optax"),
    "coming_from/torch.rst": ("torch",),
}
collect_ignore = [page for page, modules in NEEDS.items() if not all(map(find_spec, modules))]
collect_ignore += ["_build", "demo", "examples", "conf.py", "conftest.py", "optimizers/generated"]
collect_ignore += ["optimizer_pages.py"]  # needs Sphinx
