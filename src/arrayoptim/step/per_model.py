"""Arrays whose first axis counts models, seen as one array for each model."""

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
    """The structure of a tree of which each leaf is taken for one array per model.

    The pieces of a leaf follow each other: that of model ``m`` of leaf ``l`` is at place
    ``l * models + m``. Its path is that of the leaf, with the model's number behind it.

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
        # The base is frozen.
        vars(self).update(found)

    def _parts(self, tree: Tree) -> Sequence[Any]:
        assert self.whole.parts is not None
        return split(self.whole.ordered(self.whole.parts(tree)), self.models, self.whole.paths)

    def _built(self, pieces: Leaves) -> Tree:
        return self.whole.build(
            [stacked(pieces[k : k + self.models]) for k in range(0, len(pieces), self.models)]
        )


def piece(path: str, model: int) -> str:
    """Return the path of one model's part of a parameter, or of a number that each model has."""
    return f"{path}[{model}]"


def split(leaves: Leaves, models: int, paths: Sequence[str]) -> Pieces:
    """Return views of each array's parts, model by model; None for those of None.

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
        If there is one.
    """
    for x, path in zip(leaves, paths, strict=True):
        if x is None:
            continue
        if not x.shape or x.shape[0] != models:
            raise ValueError(
                f"{named(path, 'array')}: found shape {list(x.shape)}, wanted a first axis of "
                f"{models}: it counts the models of models={models}"
            )
        if type(x) is Rows or not backend_of(x).dense(x):
            raise ValueError(
                f"{named(path, 'array')}: found a sparse one, wanted dense arrays, as "
                f"models={models} splits them along their first axis"
            )


def require_writable(leaves: Leaves, structure: Structure) -> None:
    """Refuse parameters that cannot be stepped in place model by model.

    Raises
    ------
    TypeError
        If there is one.
    """
    for path, x in zip(structure.paths, leaves, strict=True):
        if x is not None and not backend_of(x).writable(x):
            raise TypeError(
                f"{named(path)}: apply() steps models in place, and {backend_of(x).name} arrays of "
                "this kind cannot be written; use init_state and stateless_apply"
            )


def stacked(pieces: Leaves) -> Array | None:
    """Return arrays as one, with a new first axis; None for those of None."""
    first = pieces[0]
    if first is None:
        return None
    backend = backend_of(first)
    with backend.guard(first):
        found: Array = backend.xp.stack(list(pieces))
        return found


def spread(numbers: dict[str, Any], count: int) -> dict[str, Any]:
    """Return the numbers of a step with a list for the pieces where they differ by model."""
    found = dict(numbers)
    for name, value in numbers.items():
        if several(value):
            table = np.empty((count // len(value), len(value)))
            table[...] = value
            found[name] = Column(table.reshape(-1))
    return found
