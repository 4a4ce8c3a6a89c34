"""Parameters that are sharded over a mesh of processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

from ...step.checks import Leaf
from ...step.sharding import Slots, Spread, Whole
from .shards import Tensor, added, in_parts, part_of
from .whole_matrices import Matrix, exchange, step_everywhere

Shapes = Mapping[str, tuple[int, ...]]


class MeshSpread(Spread):
    """How the DTensors of one parameter group are sharded over their meshes.

    Parameters
    ----------
    params : sequence of torch.Tensor
        The parameters.
    shapes : sequence of mapping of str to tuple of int
        The full shapes of the slots of each.
    wholes : iterable of int
        Indices of those that are gathered and stepped whole.

    Notes
    -----
    A matrix that is sharded over one dimension of its mesh is stepped by one process, its owner.
    As many matrices as there are processes are sent to their owners at a time, in one all-to-all
    of parameters, gradients and slots; another returns new parameters and slots. A matrix that is
    sharded over several dimensions is gathered and stepped by all of its processes.
    """

    def __init__(
        self, params: Sequence[Tensor], shapes: Sequence[Shapes] = (), wholes: Sequence[int] = ()
    ) -> None:
        self.params, self.shapes, self.wholes = list(params), list(shapes), frozenset(wholes)

    def described(self, leaves: Sequence[Leaf | None]) -> tuple[Leaf | None, ...]:
        """Return the descriptions of parameters with their full shapes; see `Spread`."""
        return tuple(
            replace(leaf, shape=tuple(p.shape), share=partial(part_of, p))
            if leaf is not None and in_parts(p)
            else leaf
            for leaf, p in zip(leaves, self.params, strict=True)
        )

    def summed(self, rows: Mapping[int, Sequence[float]]) -> dict[int, list[float]]:
        """Sum values over the processes that hold different shards; see `Spread`."""
        found = {i: list(row) for i, row in rows.items()}
        meshes: dict[Any, list[int]] = {}
        for i in rows:
            p = self.params[i]
            if in_parts(p):
                meshes.setdefault((p.device_mesh, p.placements), []).append(i)
        for key, places in meshes.items():
            sums = iter(added([x for i in places for x in found[i]], *key))
            for i in places:
                found[i] = [next(sums) for _ in found[i]]
        return found

    def step_wholes(
        self,
        params: Sequence[Tensor],
        grads: Sequence[Tensor | None],
        slots: Sequence[Slots],
        step: Whole,
    ) -> None:
        """Gather and step the parameters that are stepped whole; see `Spread`."""
        turns: dict[Any, list[Matrix]] = {}
        for i in sorted(self.wholes):
            g, whole = grads[i], self.params[i]
            if g is None or prod(whole.shape) == 0:
                continue
            matrix = Matrix(i, whole, params[i], g, slots[i], self.shapes[i])
            dimensions = [k for k, x in enumerate(whole.placements) if not x.is_replicate()]
            if len(dimensions) > 1:
                step_everywhere(matrix, step)
            else:
                turns.setdefault((whole.device_mesh, dimensions[0]), []).append(matrix)
        for (mesh, dimension), matrices in turns.items():
            count = mesh.size(dimension)
            # Matrices in one exchange have similar sizes, to balance the load.
            matrices.sort(key=lambda m: -prod(m.whole.shape))
            for k in range(0, len(matrices), count):
                exchange(matrices[k : k + count], mesh, dimension, step)
