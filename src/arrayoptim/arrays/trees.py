"""Trees of arrays, by optree; containers that only JAX knows, by JAX's registry."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple

from .._typing import Array, Tree
from .backend import CONTAINERS
from .libraries import is_array, is_array_type, is_masked, type_name, way_in
from .rows import Rows


@dataclass(frozen=True)
class Structure:
    """The structure of a tree, without its leaves.

    Attributes
    ----------
    paths : tuple of str
        One path per leaf: the keys joined by ``/``; ``~`` and ``/`` in a key are written ``~0`` and
        ``~1``. A bare array has the path ``""``.
    build : callable
        Makes a tree with this structure from its leaves.
    order : tuple of int
        The indices of the leaves in the container's own flattening; empty if the orders agree.
    parts : callable or None
        Flattens a tree with this structure in the container's own order, whatever the leaves are;
        raises a ValueError for a tree with another structure.
    names : tuple of str
        The names that patterns are matched against, if different from the paths.
    """

    paths: tuple[str, ...]
    build: Callable[[Sequence[Any]], Tree]
    order: tuple[int, ...] = ()
    parts: Callable[[Tree], Sequence[Any]] | None = None
    names: tuple[str, ...] = ()

    def ordered(self, leaves: Sequence[Any]) -> Sequence[Any]:
        """Return leaves, given in the container's own order, in the order of this structure."""
        return [leaves[k] for k in self.order] if self.order else leaves


_CACHE: dict[Any, Structure] = {}
_TAKEN: set[type[Any]] = set()
_BARE = Structure(("",), lambda leaves: leaves[0], parts=lambda tree: [tree])


def flatten(tree: Tree, what: str = "parameters") -> tuple[list[Array], Structure]:
    """Return the leaves of a tree, including None, and its structure.

    Entries of mappings of any kind are in the order of their sorted keys.

    Raises
    ------
    TypeError
        If a leaf is neither an array of a supported library nor None.
    ValueError
        If two leaves have the same path, or the tree is too deep for Python to walk.
    """
    if is_array(tree) or type(tree) is Rows:
        return [tree], _BARE
    try:
        leaves, structure = _optree_flatten(tree)
    except RecursionError:
        raise ValueError(
            f"{what}: found containers nested too deeply, or a container inside itself; wanted "
            "a tree that Python can traverse"
        ) from None
    strange = _first_strange(leaves)
    # JAX warns about an iterator, and then treats it as a leaf as well.
    unknown = strange is not None and not hasattr(leaves[strange], "__next__")
    if strange is not None and unknown and "jax" in sys.modules:
        jax_leaves, jax_structure = _jax_flatten(tree)
        jax_strange = _first_strange(jax_leaves)
        if jax_strange is None:
            return jax_leaves, jax_structure
        # A container that only JAX knows is not a leaf; the unknown leaf is inside it.
        if jax_leaves[jax_strange] is not leaves[strange]:
            leaves, structure, strange = jax_leaves, jax_structure, jax_strange
    if strange is not None and _take_up(type(leaves[strange])):
        return flatten(tree, what)
    if strange is not None:
        path, leaf = structure.paths[strange], leaves[strange]
        where = f" at {path!r}" if path else ""
        raise TypeError(
            f"{what}{where}: found {_named(leaf)}, wanted a NumPy, CuPy, torch, JAX, TensorFlow, "
            f"MLX, dpnp or array-api-strict array{_hint(leaf)}"
        )
    return leaves, structure


def _named(leaf: Any) -> str:
    """Return the name of what was found in place of an array."""
    kind = type_name(type(leaf))
    name = getattr(leaf, "__qualname__", None) or getattr(leaf, "__name__", None)
    return f"{kind} ({name})" if callable(leaf) and isinstance(name, str) else kind


def _hint(leaf: Any) -> str:
    """Return what to do about it."""
    if is_masked(leaf):
        return (
            ". Masks are not supported: fill them, as by grads.filled(0.0), and exclude parameters "
            "that should not be stepped by a gradient of None or a frozen group"
        )
    if hasattr(leaf, "tocoo"):
        return "; pass a sparse one as arrayoptim.Rows with its nonzero rows"
    if hasattr(leaf, "__next__"):
        return "; pass a list of them"
    if isinstance(leaf, Mapping):
        return "; pass dict(...) of it"
    if is_dataclass(leaf):
        return "; pass its vars(...), or register its class with JAX or optree"
    if hasattr(leaf, "named_parameters"):
        return "; pass dict(model.named_parameters())"
    if isinstance(leaf, int | float | complex):
        return "; pass an array, such as numpy.asarray(1.0)"
    if callable(leaf) or isinstance(leaf, str | bytes):
        return "; replace it by None: leaves that are not trained do not belong in the tree"
    return way_in(type(leaf))


def _first_strange(leaves: list[Any]) -> int | None:
    strange = {kind for kind in set(map(type, leaves)) if not is_array_type(kind)}
    strange -= {type(None), Rows}
    if not strange:
        return None
    return next(i for i, leaf in enumerate(leaves) if type(leaf) in strange)


def _optree_flatten(tree: Tree) -> tuple[list[Any], Structure]:
    import optree

    leaves, spec = optree.tree_flatten(tree, none_is_leaf=True, namespace=CONTAINERS)
    structure = _CACHE.get(spec)
    if structure is None:
        # optree's paths contain the positions of named fields; its accessors also their types.
        keyed = zip(spec.paths(), spec.accessors(), strict=True)
        ways = [
            tuple(
                Key(entry, isinstance(each, optree.MappingEntry))
                for entry, each in zip(path, way, strict=True)
            )
            for path, way in keyed
        ]
        structure = replace(_structure(ways, spec.unflatten), parts=spec.flatten_up_to)
        _remember(spec, structure)
    return list(structure.ordered(leaves)), structure


def _take_up(kind: type[Any]) -> bool:
    """Register a mapping type and return True, if it can be constructed from a dict."""
    if not issubclass(kind, Mapping) or kind in _TAKEN:
        return False
    make: Any = kind
    try:
        made = make({"x": 0})
    except Exception:
        return False
    if type(made) is not kind or dict(made) != {"x": 0}:
        return False
    import optree

    def taken_apart(tree: Any) -> tuple[tuple[Any, ...], Any, tuple[Any, ...]]:
        return tuple(tree.values()), tuple(tree), tuple(tree)

    def rebuilt(keys: Any, leaves: Any) -> Any:
        return make(dict(zip(keys, leaves, strict=True)))

    _TAKEN.add(kind)
    optree.register_pytree_node(
        kind, taken_apart, rebuilt, path_entry_type=optree.MappingEntry, namespace=CONTAINERS
    )
    return True


def _jax_flatten(tree: Tree) -> tuple[list[Any], Structure]:
    from jax import tree_util

    spec: Any
    leaves, spec = tree_util.tree_flatten(tree, is_leaf=lambda node: node is None)
    structure = _CACHE.get(spec)
    if structure is None:
        keyed = tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: node is None)[0]
        ways = [
            tuple(Key(_jax_key(key), isinstance(key, tree_util.DictKey)) for key in path)
            for path, _ in keyed
        ]
        structure = _structure(ways, spec.unflatten)
        _remember(spec, structure)
    return list(structure.ordered(leaves)), structure


def _jax_key(key: Any) -> Any:
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return getattr(key, attribute)
    return key


class Key(NamedTuple):
    """One entry of a path to a leaf: a key of a container, which may be a mapping."""

    entry: Any
    mapped: bool


def _structure(ways: list[tuple[Key, ...]], unflatten: Callable[[Any], Tree]) -> Structure:
    """Return a structure in which mappings are in the order of their keys."""
    order = list(_sorted(ways, list(range(len(ways))), 0))
    paths = _join([tuple(key.entry for key in ways[i]) for i in order])
    if order == list(range(len(ways))):
        return Structure(paths, unflatten)
    places = sorted(range(len(order)), key=order.__getitem__)
    return Structure(paths, lambda leaves: unflatten([leaves[k] for k in places]), tuple(order))


def _sorted(ways: list[tuple[Key, ...]], among: list[int], depth: int) -> Iterator[int]:
    """Yield the indices of leaves in sorted order, whose paths agree up to a depth."""
    inner: dict[Any, list[int]] = {}
    for i in among:
        if len(ways[i]) == depth:
            yield i
        else:
            inner.setdefault(ways[i][depth], []).append(i)
    keys = list(inner)
    if all(key.mapped for key in keys):
        # Like optree for a dict: by type first if keys of several types cannot be compared.
        try:
            keys.sort()
        except TypeError:
            keys.sort(key=_kind)
            keys = [k for _, same in groupby(keys, _kind) for k in _by_entry(list(same))]
    for key in keys:
        yield from _sorted(ways, inner[key], depth + 1)


def _kind(key: Key) -> str:
    return type(key.entry).__qualname__


def _by_entry(keys: list[Key]) -> list[Key]:
    try:
        return sorted(keys)
    except TypeError:
        return keys


def _remember(spec: Any, structure: Structure) -> None:
    if len(_CACHE) >= 256:
        _CACHE.clear()
    _CACHE[spec] = structure


def listed(names: Sequence[str], most: int = 12) -> str:
    """Return names for a message: the first few, and how many more there are."""
    more = [f"and {len(names) - most:,} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])


def named(path: str, what: str = "parameter") -> str:
    """Return the name in messages of the leaf at a path; a bare array has none."""
    return f"{what} {path!r}" if path else f"the {what}"


def outline(structure: Structure) -> str:
    """Return what messages call a tree: its leaves, or what stands there without a container."""
    if structure.paths == ("",):
        return "one array" if structure is _BARE else "None"
    many = len(structure.paths)
    held = f"{many:,} {'leaf' if many == 1 else 'leaves'}"
    return f"a tree of {held}: {listed(structure.paths)}" if many else "a tree without leaves"


def plain(path: str) -> str:
    """Return a path with its keys unescaped."""
    return path.replace("~1", "/").replace("~0", "~")


def _join(entries: Sequence[tuple[Any, ...]]) -> tuple[str, ...]:
    paths = tuple("/".join(_escape(entry) for entry in path) for path in entries)
    if len(set(paths)) != len(paths):
        twice = sorted({path for path in paths if paths.count(path) > 1})
        raise ValueError(f"two leaves have the same path, {', '.join(twice)}; rename their keys")
    return paths


def _escape(entry: Any) -> str:
    return str(entry).replace("~", "~0").replace("/", "~1")
