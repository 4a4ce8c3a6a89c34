"""Sharded matrices that are gathered, stepped whole, and scattered back."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import torch

from ...step.sharding import Slots, Whole
from .shards import Tensor, pieces, placements_of, shared_out


class Matrix:
    """A sharded parameter with its gradient and slots.

    Parameters
    ----------
    place : int
        Its index among the parameters of its group.
    whole : torch.Tensor
        The parameter, a DTensor.
    p, g : torch.Tensor
        The local shards of it and of its gradient.
    slots : dict of str to torch.Tensor
        The local shards of its slots.
    shapes : mapping of str to tuple of int
        The full shapes of the slots.
    """

    def __init__(
        self,
        place: int,
        whole: Tensor,
        p: Tensor,
        g: Tensor,
        slots: Slots,
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.place, self.whole, self.names = place, whole, list(slots)
        self.given, self.written = [p, g, *slots.values()], [p, *slots.values()]
        shape = tuple(whole.shape)
        self._shapes = [shape, *(shapes[name] for name in slots)]

    def shapes(self, gradient: bool) -> list[tuple[int, ...]]:
        """Return the full shapes of parameter, slots and, if requested, gradient."""
        return [self._shapes[0], *self._shapes] if gradient else self._shapes

    def stepped(self, wholes: Sequence[Tensor], step: Whole) -> list[Tensor]:
        """Return new parameter and slots, given the whole parameter, gradient and slots."""
        p, g, *held = wholes
        new, slots = step(self.place, p, g, dict(zip(self.names, held, strict=True)))
        return [new, *(slots[name] for name in self.names)]


def step_everywhere(matrix: Matrix, step: Whole) -> None:
    """Gather a matrix on all of its processes, and step it on each."""
    package: Any = sys.modules["torch.distributed.tensor"]
    mesh, rows = matrix.whole.device_mesh, zip(matrix.given, matrix.shapes(True), strict=True)
    wholes = [shared_out(x, matrix.whole, shape).full_tensor() for x, shape in rows]
    news = matrix.stepped(wholes, step)
    for new, x, shape in zip(news, matrix.written, matrix.shapes(False), strict=True):
        everywhere = [package.Replicate()] * mesh.ndim
        spread = package.DTensor.from_local(new.contiguous(), mesh, everywhere, run_check=False)
        placements = placements_of(matrix.whole, shape)
        x.copy_(spread.redistribute(placements=placements).to_local())


class _Cuts:
    """How the arrays of a matrix are sharded over one dimension of a mesh."""

    def __init__(self, matrix: Matrix, dimension: int, count: int, gradient: bool) -> None:
        arrays = matrix.given if gradient else matrix.written
        self.dtypes = [x.dtype for x in arrays]
        self.shapes = matrix.shapes(gradient)
        self.axes = [placements_of(matrix.whole, s)[dimension].dim for s in self.shapes]
        rows = zip(self.shapes, self.axes, strict=True)
        self.lengths = [pieces(shape[axis], count) for shape, axis in rows]

    def part(self, k: int, rank: int) -> tuple[int, ...]:
        """Return the shape of a process's shard of one of the arrays."""
        shape = list(self.shapes[k])
        shape[self.axes[k]] = self.lengths[k][rank]
        return tuple(shape)

    def size(self, rank: int) -> int:
        """Return the number of bytes of all of a process's shards."""
        return sum(prod(self.part(k, rank)) * d.itemsize for k, d in enumerate(self.dtypes))

    def read(self, data: Tensor, rank: int) -> Iterator[Tensor]:
        """Yield a process's shards from its bytes."""
        start = 0
        for k, dtype in enumerate(self.dtypes):
            shape = self.part(k, rank)
            stop = start + prod(shape) * dtype.itemsize
            # A copy, for alignment.
            yield data[start:stop].clone().view(dtype).view(shape)
            start = stop

    def wholes(self, device: Any) -> list[Tensor]:
        """Return uninitialized whole arrays."""
        rows = zip(self.shapes, self.dtypes, strict=True)
        return [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in rows]

    def of(self, wholes: Sequence[Tensor], rank: int) -> list[Tensor]:
        """Return views of a process's shards of whole arrays."""
        rows = zip(wholes, self.axes, self.lengths, strict=True)
        return [x.narrow(a, min(sum(n[:rank]), x.shape[a]), n[rank]) for x, a, n in rows]


def exchange(matrices: Sequence[Matrix], mesh: Any, dimension: int, step: Whole) -> None:
    """Step some matrices, each on a different process along a dimension of a mesh.

    Raises
    ------
    RuntimeError
        On all processes, if one of them could not be stepped.
    """
    group, rank = mesh.get_group(dimension), mesh.get_local_rank(dimension)
    count = mesh.size(dimension)
    there = [_Cuts(m, dimension, count, gradient=True) for m in matrices]
    back = [_Cuts(m, dimension, count, gradient=False) for m in matrices]
    mine = rank if rank < len(matrices) else None
    device = matrices[0].given[0].device

    sent = [_bytes(m.given) for m in matrices]
    sizes = [0 if mine is None else there[mine].size(k) for k in range(count)]
    got = _swapped(sent, sizes, count, device, group)
    flag, news, failed = 0, list[Tensor](), None
    if mine is not None:
        wholes = there[mine].wholes(device)
        for k, data in enumerate(got):
            for x, part in zip(there[mine].of(wholes, k), there[mine].read(data, k), strict=True):
                x.copy_(part)
        try:
            news = matrices[mine].stepped(wholes, step)
        except Exception as error:
            failed, flag, news = error, 1, [wholes[0], *wholes[2:]]
    mark = torch.full((1,), flag, dtype=torch.uint8, device=device)
    cut = [] if mine is None else [back[mine].of(news, k) for k in range(count)]
    answers = [torch.cat([mark, _bytes(parts)]) for parts in cut]
    sizes = [1 + cuts.size(rank) for cuts in back] + [0] * (count - len(back))
    got = _swapped(answers, sizes, count, device, group)
    for matrix, cuts, data in zip(matrices, back, got, strict=False):
        if int(data[0]):
            raise RuntimeError(
                f"the process that steps parameter {matrix.place} of its group has failed: "
                f"{failed or 'see its own error'}; load a checkpoint"
            ) from failed
        for x, part in zip(matrix.written, cuts.read(data[1:], rank), strict=True):
            x.copy_(part)


def _bytes(arrays: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.contiguous().view(-1).view(torch.uint8) for x in arrays])


def _swapped(
    sent: Sequence[Tensor], sizes: list[int], count: int, device: Any, group: Any
) -> list[Tensor]:
    """Send bytes to each process of a group, and return those received from each."""
    lengths = [len(x) for x in sent] + [0] * (count - len(sent))
    empty = torch.empty(0, dtype=torch.uint8, device=device)
    got = torch.empty(sum(sizes), dtype=torch.uint8, device=device)
    torch.distributed.all_to_all_single(got, torch.cat([empty, *sent]), sizes, lengths, group)
    return list(got.split(sizes))
