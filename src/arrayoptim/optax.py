"""The optimizers as optax transformations: `arrayoptim.adapters.optax` under its public name."""

import sys

from .adapters import adapter

# The same module object under both names.
sys.modules[__name__] = adapter("optax")
