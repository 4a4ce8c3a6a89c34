"""Data-parallel training over MPI: `arrayoptim.adapters.mpi` under its public name."""

import sys

from .adapters import adapter

# One module, whichever way it is reached.
sys.modules[__name__] = adapter("mpi")
