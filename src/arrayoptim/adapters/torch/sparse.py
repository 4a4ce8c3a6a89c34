"""A parameter group whose gradients are sparse."""

from __future__ import annotations

import torch

from .param_group import Part
from .shards import Tensor
from .spelling import Spelling


def part_class(spelling: Spelling) -> type[Part]:
    """Return the subclass of `Part` for the groups of a class of optimizers."""
    return SparsePart if spelling.row is not None and spelling.row.sparse else Part


class SparsePart(Part):
    """The optimizer of one parameter group, for gradients in torch's coordinate layout."""

    _usual = torch.sparse_coo
    _never = "gradients are sparse, whose rows are others each time"

    def _require_layout(self, g: Tensor, p: Tensor) -> None:
        if g.layout is not torch.sparse_coo:
            raise RuntimeError(
                f"{self.settings.name} does not support dense gradients, please consider Adam; "
                f"found one of parameter {self.settings.path(p)!r}"
            )
