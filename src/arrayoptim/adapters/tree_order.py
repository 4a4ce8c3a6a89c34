"""The order of a tree's arrays in its containers, which other libraries follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._typing import Tree
from ..arrays.trees import flatten


def in_order(params: Tree) -> dict[str, Any]:
    """Return the arrays of a tree by path, in the order of its dicts and lists."""
    leaves, structure = flatten(params)
    paths = {id(x): path for x, path in zip(leaves, structure.paths, strict=True)}
    return {paths[id(x)]: x for x in _leaves(params) if x is not None}


def _leaves(tree: Tree) -> Iterator[Any]:
    if isinstance(tree, Mapping):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        for each in tree:
            yield from _leaves(each)
    else:
        yield tree
