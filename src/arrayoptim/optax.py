"""The optimizers as transformations of optax: `arrayoptim.adapters.optax` under its public name."""

import sys

from .adapters import adapter

# One module, whichever way it is reached.
sys.modules[__name__] = adapter("optax")
