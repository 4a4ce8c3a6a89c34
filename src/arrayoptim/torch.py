"""The optimizers as optimizers of torch: `arrayoptim.adapters.torch` under its public name."""

import sys

from .adapters import adapter

# One module, whichever way it is reached.
sys.modules[__name__] = adapter("torch")
