"""The optimizers as methods of SciPy: `arrayoptim.adapters.scipy` under its public name."""

import sys

from .adapters import adapter

# One module, whichever way it is reached.
sys.modules[__name__] = adapter("scipy")
