"""The optimizers as optimizers of Keras 3: `arrayoptim.adapters.keras` under its public name."""

import sys

from .adapters import adapter

# One module, whichever way it is reached.
sys.modules[__name__] = adapter("keras")
