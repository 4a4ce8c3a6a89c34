"""States of optax's own functions that hold the slots of this library's optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ..._typing import Tree
from ...arrays.trees import flatten
from ...optimizer import Optimizer
from ...step.pure import numbers_in, with_arrays
from ...step.session import session_of
from ...step.state import State

COUNTS = frozenset({"count", "count_m2", "t"})


def read(
    optimizer: Optimizer, state: Any, fields: Mapping[str, str], params: Tree
) -> dict[str, Any]:
    """Return an optax state in the form that `stateless_apply` takes.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer with the hyperparameters, which optax's state lacks.
    state : tree
        As from ``init`` of optax's function, or a later step.
    fields : mapping of str to str
        Maps our slots to optax's fields.
    params : tree
        The parameters.
    """
    slots: dict[str, Any] = {}
    counts: list[Any] = []

    def look(node: Any) -> Any:
        held = getattr(node, "_fields", ())
        for slot, field in fields.items():
            if field.lstrip("-") in held:
                slots[slot] = _signed(field, getattr(node, field.lstrip("-")))
        counts.extend(getattr(node, name) for name in sorted(COUNTS.intersection(held)))
        return node

    _over_nodes(look, state, fields)
    settings = session_of(optimizer).settings
    blank = State((), (), [], settings.initial_scalars())
    tree = with_arrays(blank.to_tree(flatten(params)[1], numbers_in(settings)), jnp)
    return {**tree, "iterations": counts[0] if counts else tree["iterations"], "slots": slots}


def written(state: Any, after: Mapping[str, Any], fields: Mapping[str, str]) -> Any:
    """Return an optax state with the slots and step count of a state of ours."""
    slots = after["slots"]
    new = {f.lstrip("-"): _signed(f, slots[slot]) for slot, f in fields.items() if slot in slots}
    new |= dict.fromkeys(COUNTS, after["iterations"])

    def put(node: Any) -> Any:
        held = {name: value for name, value in new.items() if name in getattr(node, "_fields", ())}
        return node._replace(**held) if held else node

    return _over_nodes(put, state, fields)


def _signed(field: str, tree: Tree) -> Tree:
    return jax.tree.map(jnp.negative, tree) if field.startswith("-") else tree


def _over_nodes(function: Callable[[Any], Any], state: Any, fields: Mapping[str, str]) -> Any:
    """Map over the nodes of a state that have moments or a count."""
    known = {*COUNTS, *(field.lstrip("-") for field in fields.values())}

    def is_node(node: Any) -> bool:
        return bool(getattr(node, "_fields", ())) and set(node._fields) <= known

    return jax.tree.map(function, state, is_leaf=is_node)
