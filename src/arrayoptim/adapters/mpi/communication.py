"""Communication of arrays and numbers between processes: by MPI, or additionally NCCL."""

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

    CuPy arrays are passed to MPI directly, which must be CUDA-aware.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        The communicator.

    Attributes
    ----------
    rank, world : int
        The rank of this process, and the number of processes.
    """

    def __init__(self, comm: MPI.Comm) -> None:
        self.comm = comm
        self.rank: int = comm.Get_rank()
        self.world: int = comm.Get_size()

    def reduced(self, flat: Array, mine: Array, counts: Sequence[int]) -> None:
        """Reduce-scatter: sum over all processes, and send each its part of the sums.

        Parameters
        ----------
        flat : array
            The summands, as many entries as the counts add up to.
        mine : array
            Receives this process's part of the sums.
        counts : sequence of int
            Number of entries for each process, in order.
        """
        _settle(flat)
        self.comm.Reduce_scatter(flat, mine, list(counts), MPI.SUM)

    def gathered(self, mine: Array, flat: Array, counts: Sequence[int]) -> None:
        """All-gather: concatenate the bytes of all processes, in order.

        Parameters
        ----------
        mine, flat : array of uint8
            This process's bytes, and the buffer that receives those of all.
        counts : sequence of int
            Number of bytes of each process.
        """
        _settle(mine)
        self.comm.Allgatherv([mine, MPI.BYTE], [flat, list(counts), MPI.BYTE])

    def added(self, numbers: np.ndarray) -> np.ndarray:
        """Return elementwise sums of float64 numbers over all processes."""
        sums = np.empty_like(numbers)
        self.comm.Allreduce(numbers, sums, MPI.SUM)
        return sums

    def greatest(self, numbers: np.ndarray) -> np.ndarray:
        """Return elementwise maxima of int64 numbers over all processes."""
        found = np.empty_like(numbers)
        self.comm.Allreduce(numbers, found, MPI.MAX)
        return found

    def told(self, number: int) -> int:
        """Return the number passed by the first process."""
        return int(self.comm.bcast(number))


class Nccl(Links):
    """MPI for arrays on the host, and NCCL for arrays on GPUs.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        The communicator.
    backend : cupyx.distributed.NCCLBackend
        A communicator of the same processes, with the same ranks.
    """

    def __init__(self, comm: MPI.Comm, backend: Any) -> None:
        super().__init__(comm)
        self._backend = backend

    def reduced(self, flat: Array, mine: Array, counts: Sequence[int]) -> None:
        """Reduce-scatter; see `Links`."""
        # NCCL supports only equal parts.
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
        """All-gather; see `Links`."""
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
    """Wait until a GPU has computed an array, as MPI does not synchronize with its streams."""
    if not isinstance(x, np.ndarray):
        cupy: Any = sys.modules["cupy"]
        cupy.cuda.get_current_stream().synchronize()


def links_of(comm: MPI.Comm | None, nccl: Any = None) -> Links:
    """Return the collectives of a communicator; by default of all processes.

    Raises
    ------
    TypeError
        If it is not a communicator.
    """
    comm = MPI.COMM_WORLD if comm is None else comm
    if not isinstance(comm, MPI.Comm):
        raise TypeError(f"found {comm!r}, wanted an mpi4py communicator, such as MPI.COMM_WORLD")
    return Links(comm) if nccl is None else Nccl(comm, nccl)
