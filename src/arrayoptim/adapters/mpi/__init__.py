"""Data-parallel training of NumPy and CuPy arrays over MPI, with sharded optimizer state.

Every process has all parameters, computes gradients of its own data, and holds the state of a
share of the parameters, like stage 1 of ZeRO. `mpi4py` carries the messages between the
processes.
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
    """Return a data-parallel optimizer made from an optimizer or wrapper; see `DataParallel`.

    Parameters
    ----------
    optimizer : Optimizer, Wrapper, str or dict
        The optimizer, its name, or its configuration; the same in all processes.
    comm : mpi4py.MPI.Comm, optional
        The processes; all of them by default.
    mean : bool
        Whether to average gradients over the processes, instead of summing them.
    nccl : cupyx.distributed.NCCLBackend, optional
        Communicator for CuPy arrays; MPI is used by default.

    Raises
    ------
    TypeError
        If `optimizer` or `comm` has the wrong type.
    """
    return DataParallel(optimizer, comm, mean=mean, nccl=nccl)


def __getattr__(name: str) -> Callable[..., DataParallel]:
    """Return a factory of the optimizer with that name over all processes."""
    if name in names():
        return factory(name, DataParallel)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{spelled(name, 'mpi')}")


def __dir__() -> Sequence[str]:
    """Return all names, including those of the optimizers."""
    return sorted({*globals(), *names()})
