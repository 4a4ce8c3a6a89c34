"""States in the form that optax expects: every slot has a leaf for each parameter."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ..._typing import Tree
from ...arrays.trees import flatten
from ...optimizer import Optimizer
from ...step.session import session_of


def slot_names(optimizer: Optimizer) -> list[str]:
    """Return the slots that parameters of any shape have."""
    settings = session_of(optimizer).settings
    found: dict[str, None] = {}
    for member in settings.members:
        formula = member.formula
        rules = [formula.rule, *(formula.rule_for("", shape) for shape in ((2, 2), (2,), ()))]
        for rule in rules:
            found |= dict.fromkeys(settings.layout(rule).slots("float32"))
    return list(found)


def filled(optimizer: Optimizer, state: dict[str, Any], params: Tree) -> dict[str, Any]:
    """Return a state with empty arrays for slots that a parameter lacks.

    Every slot is then a tree like the parameters, as ``optax.tree.map_params`` requires.
    """
    leaves, structure = flatten(params)
    if all(p is None for p in leaves):
        return state
    nothing = jnp.zeros((0,), jnp.float32)
    slots = {}
    for name in dict.fromkeys([*state["slots"], *slot_names(optimizer)]):
        held = state["slots"].get(name)
        row = [None] * len(leaves) if held is None else flatten(held, f"slot {name!r}")[0]
        if held is None and not any(r == "matrix" for r in _kinds(optimizer)):
            continue
        slots[name] = structure.build(
            [
                nothing if x is None and p is not None else x
                for x, p in zip(row, leaves, strict=True)
            ]
        )
    return {**state, "slots": slots}


def _kinds(optimizer: Optimizer) -> set[str]:
    return {member.formula.rule.kind for member in session_of(optimizer).settings.members}


def without_decay(optimizer: Optimizer, mask: Any, params: Tree) -> Optimizer:
    """Return an optimizer that excludes from decay what an optax mask excludes.

    Parameters
    ----------
    optimizer : Optimizer
        An optimizer without `exclude`.
    mask : tree of bool, callable or None
        Whether each parameter, or subtree, is decayed.
    params : tree
        The parameters.
    """
    if mask is None or mask is True:
        return optimizer
    wanted = mask(params) if callable(mask) else mask
    whole = jax.tree.map(lambda keep, part: jax.tree.map(lambda _: keep, part), wanted, params)
    rows, structure = jax.tree.leaves(whole), flatten(params)[1]
    kept = dict(zip(flatten(jax.tree.map(lambda _: jnp.zeros(()), params))[1].paths, rows))
    left = [path for path in structure.paths if path in kept and not kept[path]]
    if not left:
        return optimizer
    return _excluding(optimizer, tuple(map(_escaped, left)))


def _excluding(optimizer: Optimizer, patterns: tuple[str, ...]) -> Optimizer:
    known: dict[tuple[str, ...], Optimizer] = vars(optimizer).setdefault("_masked", {})
    if patterns not in known:
        known[patterns] = optimizer.again(exclude=list(patterns))
    return known[patterns]


def _escaped(path: str) -> str:
    """Return a pattern that matches exactly one path."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)
