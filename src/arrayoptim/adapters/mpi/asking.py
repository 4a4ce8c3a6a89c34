"""Validation of a step's arguments on each process, and their comparison over processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..._typing import Array, Tree
from ...arrays.identity import same_objects
from ...arrays.libraries import backend_of
from ...arrays.trees import Structure, flatten
from ...config.registry import require_one_model
from ...step import checks
from ...step.session import Session, session_of
from ...step.sharding import takes_wholes
from ...step.sparse import made_dense
from ...wrappers import Wrapper
from .agreement import (
    compared,
    count_of,
    key_of,
    number_of,
    refuse_different,
    settings_of,
    words_of,
)
from .communication import Links

__all__ = ["WHY_ONE", "Asked", "Asking", "sessions_of"]

WHY_ONE = "processes share out the arrays of one"
"""Why many models are refused."""


@dataclass
class Asked:
    """The parameters of a step.

    Attributes
    ----------
    leaves, structure : list, Structure
        The parameters.
    needs : list of bool
        Whether each parameter is stepped whole.
    number : int
        A hash that differs for parameters that are distributed differently.
    parts : tree
        The pieces that this process steps, once known.
    """

    leaves: list[Any]
    structure: Structure
    needs: list[bool]
    number: int
    parts: Tree = None


class Asking:
    """Validates the arguments of each process, and compares them over processes.

    Only changes since the last step are checked: the same arrays, and unchanged hyperparameters,
    cost only a comparison of references.

    Parameters
    ----------
    links : Links
        The processes.
    optimizer : Optimizer or Wrapper
        The optimizer on each process.
    """

    def __init__(self, links: Links, optimizer: Any) -> None:
        self._links, self._optimizer = links, optimizer
        self._asked: Asked | None = None
        self._settings: list[Any] = []
        self._said = 0

    def agreed(self, params: Tree, grads: Tree) -> tuple[Asked, list[Any], list[bool]]:
        """Return parameters, gradients, and which gradients exist on any process.

        Raises
        ------
        RuntimeError
            If the arguments of another process are invalid.
        TypeError, ValueError
            If the arguments of this process are invalid, or the processes differ.
        """
        look = partial(self._looked, params, grads)
        (asked, found), same = compared(self._links, look, 4)
        if not all(same[:3]):
            refuse_different(self._links, same[:3], self._optimizer, self._counting)
        present = [g is not None for g in found]
        if not same[3]:
            present = self._links.greatest(np.array(present, np.int64)).astype(bool).tolist()
        return asked, found, present

    @property
    def _counting(self) -> Session:
        """The session that counts steps."""
        return sessions_of(self._optimizer)[-1]

    def _looked(self, params: Tree, grads: Tree) -> tuple[tuple[Asked, list[Any]], list[int]]:
        """Check the arguments of this process, and return them with hashes to compare."""
        leaves, structure = flatten(params)
        asked = self._known(leaves, structure)
        for path, x in zip(structure.paths, leaves, strict=True):
            if x is not None and not backend_of(x).writable(x):
                raise ValueError(f"parameter {path!r} cannot be written; pass a copy of it")
        found: list[Any] = []
        if grads is not None:
            given, other = flatten(grads, "gradients")
            checks.same_structure(other, structure)
            why = "gradients of all processes are summed as dense arrays"
            found = made_dense(self._optimizer, given, leaves, why)
            odd = [i for i, g in enumerate(found) if g is not None and not _fits(g, leaves[i])]
            checks.gradients(found, leaves, structure, odd)
        missing = [i for i, g in enumerate(found) if g is None]
        count = count_of(self._counting)
        return (asked, found), [asked.number, self._said, count, number_of(missing)]

    def _known(self, leaves: list[Any], structure: Structure) -> Asked:
        """Return the cached description of some parameters, updated if something has changed."""
        settings, asked = settings_of(self._optimizer), self._asked
        same = same_objects(settings, self._settings)
        if not same:
            require_one_model(self._optimizer, "DataParallel", WHY_ONE)
            self._said = number_of(words_of(self._optimizer))
        if asked is not None and asked.structure.paths == structure.paths:
            here = same_objects(leaves, asked.leaves)
            if here and (same or self._needed(leaves, structure) == asked.needs):
                self._settings = settings
                return asked
        for path, x in zip(structure.paths, leaves, strict=True):
            if x is not None and backend_of(x).name not in {"numpy", "cupy"}:
                raise TypeError(
                    f"parameter {path!r}: found an array of {backend_of(x).name}, wanted NumPy or "
                    "CuPy; torch and JAX have collectives of their own"
                )
        needs = self._needed(leaves, structure)
        number = number_of(key_of(leaves, structure, needs))
        self._asked, self._settings = Asked(leaves, structure, needs, number), settings
        return self._asked

    def _needed(self, leaves: Sequence[Array | None], structure: Structure) -> list[bool]:
        """Return whether each parameter is stepped whole."""
        described, needs = checks.describe(leaves, structure), [False] * len(leaves)
        for session in sessions_of(self._optimizer):
            h, layouts = session.settings.whole, session.assign(described).layouts
            # Blocks and random bits depend on the indices of entries in the whole array.
            coded = h["state_dtype"] == "int8" or h["stochastic_rounding"]
            for i, layout in enumerate(layouts):
                needs[i] |= layout is not None and (coded or takes_wholes(layout, h))
        return needs


def sessions_of(optimizer: Any) -> list[Session]:
    """Return the sessions of an optimizer, or of a wrapper and its inner optimizers, in order."""
    if isinstance(optimizer, Wrapper):
        return list(optimizer._sessions())
    return [session_of(optimizer)]


def _fits(g: Array, p: Array | None) -> bool:
    """Return whether a gradient obviously fits its parameter, so that no checks are needed."""
    if p is None or type(g) is not np.ndarray or type(p) is not np.ndarray:
        return False
    return bool(g.dtype == p.dtype and g.shape == p.shape)
