"""Nested containers of arrays, by optree; by JAX's own registry for containers only JAX knows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .._typing import Array, Tree
from .libraries import is_array, is_array_type, way_in


@dataclass(frozen=True)
class Structure:
    """The shape of a tree without its leaves.

    Attributes
    ----------
    paths : tuple of str
        One path per leaf: the keys joined by ``/``; ``~`` and ``/`` in a key are written ``~0`` and
        ``~1``. A bare array has the path ``""``.
    build : callable
        Makes a tree of this shape from its leaves.
    """

    paths: tuple[str, ...]
    build: Callable[[Sequence[Any]], Tree]


_CACHE: dict[Any, Structure] = {}
_BARE = Structure(("",), lambda leaves: leaves[0])


def flatten(tree: Tree, what: str = "parameters") -> tuple[list[Array], Structure]:
    """Give the leaves of a tree, None included, and its structure.

    Raises
    ------
    TypeError
        If a leaf is neither an array of a supported library nor None.
    ValueError
        If two leaves have the same path.
    """
    if is_array(tree):
        return [tree], _BARE
    leaves, structure = _optree_flatten(tree)
    strange = _first_strange(leaves)
    if strange is not None and "jax" in sys.modules:
        jax_leaves, jax_structure = _jax_flatten(tree)
        if _first_strange(jax_leaves) is None:
            return jax_leaves, jax_structure
    if strange is not None:
        path, leaf = structure.paths[strange], leaves[strange]
        where = f" at {path!r}" if path else ""
        hint = "; pass a list of them" if hasattr(leaf, "__next__") else way_in(type(leaf))
        raise TypeError(
            f"{what}{where}: found {type(leaf).__module__}.{type(leaf).__qualname__}, wanted a "
            f"NumPy, CuPy, torch, JAX, TensorFlow, MLX, dpnp or array-api-strict array{hint}"
        )
    return leaves, structure


def _first_strange(leaves: list[Any]) -> int | None:
    strange = {kind for kind in set(map(type, leaves)) if not is_array_type(kind)} - {type(None)}
    if not strange:
        return None
    return next(i for i, leaf in enumerate(leaves) if type(leaf) in strange)


def _optree_flatten(tree: Tree) -> tuple[list[Any], Structure]:
    import optree

    leaves, spec = optree.tree_flatten(tree, none_is_leaf=True)
    structure = _CACHE.get(spec)
    if structure is None:
        structure = Structure(_join(spec.paths()), spec.unflatten)
        _remember(spec, structure)
    return leaves, structure


def _jax_flatten(tree: Tree) -> tuple[list[Any], Structure]:
    from jax import tree_util

    spec: Any
    leaves, spec = tree_util.tree_flatten(tree, is_leaf=lambda node: node is None)
    structure = _CACHE.get(spec)
    if structure is None:
        keyed = tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: node is None)[0]
        entries = [tuple(_jax_key(key) for key in path) for path, _ in keyed]
        structure = Structure(_join(entries), spec.unflatten)
        _remember(spec, structure)
    return leaves, structure


def _jax_key(key: Any) -> Any:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return getattr(key, attribute)
    return key


def _remember(spec: Any, structure: Structure) -> None:
    if len(_CACHE) >= 256:
        _CACHE.clear()
    _CACHE[spec] = structure


def listed(names: Sequence[str], most: int = 12) -> str:
    """Give names for a message: of many the first, and how many more there are."""
    more = [f"and {len(names) - most:,} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])


def _join(entries: Sequence[tuple[Any, ...]]) -> tuple[str, ...]:
    paths = tuple("/".join(_escape(entry) for entry in path) for path in entries)
    if len(set(paths)) != len(paths):
        twice = sorted({path for path in paths if paths.count(path) > 1})
        raise ValueError(f"two leaves have the same path, {', '.join(twice)}; rename their keys")
    return paths


def _escape(entry: Any) -> str:
    return str(entry).replace("~", "~0").replace("/", "~1")
