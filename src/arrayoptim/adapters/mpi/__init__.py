"""Data-parallel training of NumPy and CuPy arrays over MPI, with the state shared out.

Every process has all parameters, computes gradients of its own data, and keeps the state of a
share of the parameters: what is known as the first stage of ZeRO. `mpi4py` carries what the
processes tell each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...config.other_libraries import spelled
from ...config.registry import names
from ..factories import factory
from .parallel import DataParallel

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["DataParallel", "wrap"]


def wrap(
    optimizer: Any, comm: MPI.Comm | None = None, *, mean: bool = True, nccl: Any = None
) -> DataParallel:
    """Make a data-parallel optimizer from one, or from a wrapper; see `DataParallel`.

    Parameters
    ----------
    optimizer : Optimizer, Wrapper, str or dict
        The optimizer, its name, or its configuration; the same in all processes.
    comm : mpi4py.MPI.Comm, optional
        The processes; all of them by default.
    mean : bool
        Whether gradients are divided by the number of processes. Without it they are added up.
    nccl : cupyx.distributed.NCCLBackend, optional
        What carries CuPy arrays; MPI does without it.

    Raises
    ------
    TypeError
        If it is no optimizer, or no communicator.
    """
    return DataParallel(optimizer, comm, mean=mean, nccl=nccl)


def __getattr__(name: str) -> Callable[..., DataParallel]:
    """Return what makes the optimizer of that name over all processes."""
    if name in names():
        return factory(name, DataParallel)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{spelled(name, 'mpi')}")


def __dir__() -> Sequence[str]:
    """Name the optimizers too."""
    return sorted({*globals(), *names()})
