"""Arrays whose first axis counts models, split into one array per model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._typing import Array, Tree
from ..arrays.libraries import backend_of
from ..arrays.per_model import Pieces
from ..arrays.rows import Rows
from ..arrays.trees import Structure, named
from ..config.per_model import several
from ..engines import Column

Leaves = Sequence[Array | None]


class Stack(Structure):
    """The structure of a tree in which each leaf is split into one array per model.

    The pieces of a leaf are adjacent: that of model ``m`` of leaf ``l`` has index
    ``l * models + m``. Its path is that of the leaf, followed by the model's index.

    Parameters
    ----------
    whole : Structure
        The structure of the tree.
    models : int
        Number of models.
    """

    whole: Structure
    models: int

    def __init__(self, whole: Structure, models: int) -> None:
        names = tuple(path for path in whole.paths for _ in range(models))
        paths = tuple(piece(path, m) for path in whole.paths for m in range(models))
        found = {"paths": paths, "order": (), "names": names, "whole": whole, "models": models}
        found |= {"build": self._built, "parts": self._parts if whole.parts else None}
        # The base class is a frozen dataclass.
        vars(self).update(found)

    def _parts(self, tree: Tree) -> Sequence[Any]:
        assert self.whole.parts is not None
        return split(self.whole.ordered(self.whole.parts(tree)), self.models, self.whole.paths)

    def _built(self, pieces: Leaves) -> Tree:
        return self.whole.build(
            [stacked(pieces[k : k + self.models]) for k in range(0, len(pieces), self.models)]
        )


def piece(path: str, model: int) -> str:
    """Return the path of one model's piece of a parameter, or of a per-model scalar."""
    return f"{path}[{model}]"


def split(leaves: Leaves, models: int, paths: Sequence[str]) -> Pieces:
    """Return views of each array, one per model; None for each piece of None.

    Raises
    ------
    ValueError
        If the first axis of an array does not count the models.
    """
    require_models(leaves, models, paths)
    return Pieces(leaves, models)


def require_models(leaves: Leaves, models: int, paths: Sequence[str]) -> None:
    """Refuse arrays whose first axis does not count the models, and sparse ones.

    Raises
    ------
    ValueError
        If there is such an array.
    """
    for x, path in zip(leaves, paths, strict=True):
        if x is None:
            continue
        if not x.shape or x.shape[0] != models:
            raise ValueError(
                f"{named(path, 'array')}: found shape {list(x.shape)}, wanted a first axis of "
                f"length {models}, which counts the models of models={models}"
            )
        if type(x) is Rows or not backend_of(x).dense(x):
            raise ValueError(
                f"{named(path, 'array')}: found a sparse array, wanted dense ones, as "
                f"models={models} splits them along their first axis"
            )


def require_writable(leaves: Leaves, structure: Structure) -> None:
    """Refuse parameters that cannot be stepped in place model by model.

    Raises
    ------
    TypeError
        If there is such a parameter.
    """
    for path, x in zip(structure.paths, leaves, strict=True):
        if x is not None and not backend_of(x).writable(x):
            raise TypeError(
                f"{named(path)}: apply() steps models in place, but this {backend_of(x).name} "
                "array cannot be written; use init_state and stateless_apply"
            )


def stacked(pieces: Leaves) -> Array | None:
    """Return arrays stacked along a new first axis; None if they are None."""
    first = pieces[0]
    if first is None:
        return None
    backend = backend_of(first)
    with backend.guard(first):
        found: Array = backend.xp.stack(list(pieces))
        return found


def spread(numbers: dict[str, Any], count: int) -> dict[str, Any]:
    """Return the per-step scalars, with a list over pieces for those that differ by model."""
    found = dict(numbers)
    for name, value in numbers.items():
        if several(value):
            table = np.empty((count // len(value), len(value)))
            table[...] = value
            found[name] = Column(table.reshape(-1))
    return found
