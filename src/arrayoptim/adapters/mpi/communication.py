"""What carries arrays and numbers between processes: MPI, or NCCL beside it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

__all__ = ["Links", "Nccl", "links_of"]

Array = Any


class Links:
    """The collectives of a communicator of mpi4py.

    CuPy arrays are handed to MPI as they are, which has to be built for that.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        The communicator.

    Attributes
    ----------
    rank, world : int
        The number of this process, and how many there are.
    """

    def __init__(self, comm: MPI.Comm) -> None:
        self.comm = comm
        self.rank: int = comm.Get_rank()
        self.world: int = comm.Get_size()

    def reduced(self, flat: Array, mine: Array, counts: Sequence[int]) -> None:
        """Add up what all processes have, and deal out the sums.

        Parameters
        ----------
        flat : array
            As many elements as the counts together.
        mine : array
            Where this process's part of the sums goes.
        counts : sequence of int
            How many of them are for each process, in order.
        """
        _settle(flat)
        self.comm.Reduce_scatter(flat, mine, list(counts), MPI.SUM)

    def gathered(self, mine: Array, flat: Array, counts: Sequence[int]) -> None:
        """Bring together the bytes of all processes, in order.

        Parameters
        ----------
        mine, flat : array of uint8
            This process's bytes, and where all of them go.
        counts : sequence of int
            How many bytes each process has.
        """
        _settle(mine)
        self.comm.Allgatherv([mine, MPI.BYTE], [flat, list(counts), MPI.BYTE])

    def added(self, numbers: np.ndarray) -> np.ndarray:
        """Return the sums of float64 numbers that all processes have."""
        sums = np.empty_like(numbers)
        self.comm.Allreduce(numbers, sums, MPI.SUM)
        return sums

    def greatest(self, numbers: np.ndarray) -> np.ndarray:
        """Return the greatest of each of the int64 numbers that all processes have."""
        found = np.empty_like(numbers)
        self.comm.Allreduce(numbers, found, MPI.MAX)
        return found

    def told(self, number: int) -> int:
        """Return the number that the first process gave."""
        return int(self.comm.bcast(number))


class Nccl(Links):
    """MPI for what is on the host, and NCCL for what is on GPUs.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        The communicator.
    backend : cupyx.distributed.NCCLBackend
        Of as many processes, of the same ranks.
    """

    def __init__(self, comm: MPI.Comm, backend: Any) -> None:
        super().__init__(comm)
        self._backend = backend

    def reduced(self, flat: Array, mine: Array, counts: Sequence[int]) -> None:
        """Add up, and deal out; see `Links`."""
        # NCCL deals out equal parts only.
        most, start = max(counts), 0
        even = type(flat)((self.world * most,), dtype=flat.dtype)
        for k, count in enumerate(counts):
            even[k * most : k * most + count] = flat[start : start + count]
            even[k * most + count : (k + 1) * most] = 0
            start += count
        room = type(flat)((most,), dtype=flat.dtype)
        self._backend.reduce_scatter(even, room, most, "sum")
        mine[...] = room[: counts[self.rank]]

    def gathered(self, mine: Array, flat: Array, counts: Sequence[int]) -> None:
        """Bring together the bytes of all processes; see `Links`."""
        most, start = max(counts), 0
        padded = type(mine)((most,), dtype=mine.dtype)
        padded[: len(mine)] = mine
        padded[len(mine) :] = 0
        even = type(mine)((self.world * most,), dtype=mine.dtype)
        self._backend.all_gather(padded, even, most)
        for k, count in enumerate(counts):
            flat[start : start + count] = even[k * most : k * most + count]
            start += count


def _settle(x: Array) -> None:
    """Wait until a GPU has computed an array: MPI knows nothing of its streams."""
    if not isinstance(x, np.ndarray):
        cupy: Any = sys.modules["cupy"]
        cupy.cuda.get_current_stream().synchronize()


def links_of(comm: MPI.Comm | None, nccl: Any = None) -> Links:
    """Return the collectives of a communicator; of all processes by default.

    Raises
    ------
    TypeError
        If it is none.
    """
    comm = MPI.COMM_WORLD if comm is None else comm
    if not isinstance(comm, MPI.Comm):
        raise TypeError(f"found {comm!r}, wanted a communicator of mpi4py, as MPI.COMM_WORLD")
    return Links(comm) if nccl is None else Nccl(comm, nccl)
