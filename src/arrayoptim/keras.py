"""The optimizers as optimizers of Keras 3: `arrayoptim.adapters.keras` under its public name."""

import sys

from .adapters import adapter

# The same module object under both names.
sys.modules[__name__] = adapter("keras")
