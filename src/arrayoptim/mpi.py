"""Data-parallel training over MPI: `arrayoptim.adapters.mpi` under its public name."""

import sys

from .adapters import adapter

# The same module object under both names.
sys.modules[__name__] = adapter("mpi")
