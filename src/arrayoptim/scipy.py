"""The optimizers as SciPy methods: `arrayoptim.adapters.scipy` under its public name."""

import sys

from .adapters import adapter

# The same module object under both names.
sys.modules[__name__] = adapter("scipy")
