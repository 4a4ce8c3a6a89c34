"""Switching between optax's own optimizers and these in the middle of training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ..._typing import Tree
from ...arrays.libraries import COMPLEX, backend_of, is_array
from ...arrays.trees import flatten, named
from ...optimizer import Optimizer
from ...persistence import Record
from ...step.restore import LoadReport
from ...step.save_and_load import load_into, record_of
from ...step.session import session_of
from .slot_pairs import (
    COUNTS,
    Pair,
    factor_of,
    is_node,
    is_own,
    kinds,
    last_name,
    matters,
    needed_by,
    nodes_of,
    pairs_of,
    say,
    wanted,
)


def load_state(optimizer: Optimizer, state: Any, params: Tree, strict: bool = True) -> LoadReport:
    """Load the moments and step count of an optax state into an optimizer.

    Parameters
    ----------
    optimizer : Optimizer
        An optimizer of the corresponding class, with the hyperparameters to continue with, as
        optax's state has none. Its state is made if necessary.
    state : tree
        The state of an optax optimizer, possibly chained, masked, partitioned or injected; or of
        a transformation of this module, from which hyperparameters are loaded too.
    params : tree of arrays
        The parameters, of any library, with the same paths as in the state.
    strict : bool
        Whether moments that are missing, misshapen or unused are an error. Otherwise, entries
        that fit are loaded.

    Returns
    -------
    LoadReport
        What was restored, what was not, and where the formulas differ.

    Raises
    ------
    TypeError
        If no state of optax corresponds to the optimizer's class.
    ValueError
        If the state does not fit. Nothing has changed then.

    Warns
    -----
    UserWarning
        If the two formulas differ: in the place of epsilon, or in the effect of a new learning
        rate on existing momentum.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import optax
    >>> import arrayoptim as ao
    >>> params = {"w": jnp.ones(2)}
    >>> theirs = optax.lion(0.1, weight_decay=0.0)
    >>> _, state = theirs.update({"w": jnp.ones(2)}, theirs.init(params), params)
    >>> ours = ao.Lion(lr=0.1)
    >>> ao.optax.load_state(ours, state, params).restored
    ['momentum of w', 'iterations']
    """
    _require_optimizer(optimizer)
    own = [node for _, node in nodes_of(state) if is_own(node)]
    if len(own) > 1:
        raise ValueError(f"found {len(own)} states of this library; pass one of them")
    if own:
        return optimizer.load_state(own[0], params, strict)
    return load_into(
        session_of(optimizer), params, _foreign_record(optimizer, state, strict), strict=strict
    )


def export_state(optimizer: Optimizer, tx: Any, params: Tree) -> Any:
    """Return an optax state with the moments and step count of an optimizer.

    Parameters
    ----------
    optimizer : Optimizer
        An optimizer with state, for arrays of any library.
    tx : optax.GradientTransformation
        The optax transformation to continue with, with its own hyperparameters.
    params : tree of arrays
        The parameters as JAX arrays, with the same paths as in the optimizer's state.

    Returns
    -------
    tree
        The result of ``tx.init(params)``, with moments and counts replaced. Any other state in
        it is initial.

    Raises
    ------
    TypeError
        If no state of optax corresponds to the optimizer's class.
    ValueError
        If the optimizer has no state, or `tx` cannot hold some of it.

    Warns
    -----
    UserWarning
        If the two formulas differ, as in `load_state`, or moments are rounded to the dtype in
        which optax keeps them.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import optax
    >>> import arrayoptim as ao
    >>> params, ours = {"w": jnp.ones(2)}, ao.Lion(lr=0.1)
    >>> _ = ours.apply({"w": jnp.ones(2)}, params)
    >>> state = ao.optax.export_state(ours, optax.lion(0.1, weight_decay=0.0), params)
    >>> print(state[0].count, state[0].mu["w"].round(3))
    1 [0.01 0.01]
    """
    _require_optimizer(optimizer)
    pairs, record = pairs_of(optimizer), record_of(session_of(optimizer))
    assert record.paths is not None
    held = {
        slot: dict(zip(record.paths[slot], (read() for read in row), strict=True))
        for slot, row in record.slots.items()
    }
    left = {(slot, path) for slot in needed_by(optimizer) for path in held[slot]}
    used, narrow = list[Pair](), list[Any]()

    def replaced(path: Any, node: Any) -> Any:
        if last_name(path) in COUNTS and is_array(node):
            return _counted(record, node)
        pair = next((row for row in pairs if row.node == type(node).__name__), None)
        if pair is None:
            return node
        used.append(pair)
        new = {name: _counted(record, node._asdict()[name]) for name in COUNTS & set(node._fields)}
        for field, slot in pair.fields.items():
            factor = factor_of(optimizer, pair)
            new[field], paths = _filled(getattr(node, field), held[slot], factor, narrow)
            left.difference_update((slot, each) for each in paths)
        return node._replace(**new)

    made = jax.tree_util.tree_map_with_path(replaced, tx.init(params), is_leaf=is_node)
    if left:
        lost = ", ".join(sorted(f"{slot} of {path}" if path else slot for slot, path in left))
        raise ValueError(
            f"the state of this optax transformation cannot hold {lost}; wanted {wanted(pairs)}"
        )
    say(optimizer, dict.fromkeys(used), stacklevel=2)
    if narrow:
        warnings.warn(f"moments are rounded to {narrow[0]}, optax's dtype for them", stacklevel=2)
    return made


def _require_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"found {optimizer!r}, wanted an arrayoptim optimizer, such as arrayoptim.Adam()"
        )


# ---- writing


def _counted(record: Record, like: Any) -> Any:
    return backend_of(like).from_host(np.asarray(record.iterations), like)


def _filled(
    tree: Tree, held: Mapping[str, Any], factor: float, narrow: list[Any]
) -> tuple[Tree, tuple[str, ...]]:
    """Return a tree filled with the optimizer's moments, and their paths; note narrowed dtypes."""
    leaves, structure = flatten(tree, "moments")
    pairs = list(zip(structure.paths, leaves, strict=True))
    for path, x in pairs:
        if x is not None and (path not in held or held[path].shape != tuple(x.shape)):
            found = f"an array of {held[path].shape}" if path in held else "none"
            raise ValueError(
                f"{named(path)}: wanted state of shape {tuple(x.shape)}, found {found}"
            )
        if x is not None:
            _refuse_complex(path, x)
            narrow += [x.dtype] if x.dtype.itemsize < held[path].dtype.itemsize else []
    new = [x if x is None else backend_of(x).from_host(held[p] / factor, x) for p, x in pairs]
    return structure.build(new), structure.paths


def _refuse_complex(path: str, x: Any) -> None:
    if backend_of(x).dtype(x) in COMPLEX:
        raise ValueError(
            f"{named(path)} is complex; optax keeps the mean of squared magnitudes, but a "
            "step here treats real and imaginary part separately"
        )


# ---- reading


def _foreign_record(optimizer: Optimizer, state: Any, strict: bool) -> Record:
    """Return an optax state as a record, as if it were from a file."""
    pairs, used = pairs_of(optimizer), list[Pair]()
    slots: dict[str, dict[str, Any]] = {}
    own_counts, other_counts, strange = set(), set(), []
    for path, node in nodes_of(state):
        pair = next((row for row in pairs if row.node == type(node).__name__), None)
        if pair is not None:
            used.append(pair)
            own_counts |= {int(getattr(node, name)) for name in COUNTS & set(node._fields)}
            for field, slot in pair.fields.items():
                tree = getattr(node, field)
                found = _moments(tree, factor_of(optimizer, pair))
                slots[slot] = slots.get(slot, {}) | found
        elif last_name(path) in COUNTS:
            other_counts.add(int(node))
        elif matters(node):
            strange.append(jax.tree_util.keystr(path))
    missing = [slot for slot in needed_by(optimizer) if slot not in slots]
    if missing and strict:
        raise ValueError(
            f"the optax state has nothing for {', '.join(missing)} of {optimizer!r}; wanted "
            f"{wanted(pairs)}, found {kinds(state)}"
        )
    if strange and strict:
        raise ValueError(
            f"the optax state also has {', '.join(strange)}, which {optimizer!r} "
            "cannot use; strict=False ignores it"
        )
    counts = own_counts or other_counts
    if len(counts) > 1:
        raise ValueError(f"the optax state has the step counts {sorted(counts)}, wanted one")
    notes = say(optimizer, dict.fromkeys(used), stacklevel=3)
    notes += [f"found nothing for {slot}" for slot in missing]
    notes += [f"not loaded: {name}" for name in strange]
    if not counts:
        notes.append("it has no step count, on which decay and schedules depend; set it")
    count = counts.pop() if counts else None
    return Record(
        source="optax",
        class_name=None,
        config=None,
        iterations=count,
        scalars={},
        slots={name: list(found.values()) for name, found in slots.items()},
        paths={name: list(found) for name, found in slots.items()},
        notes=notes,
        origin="the state of optax",
    )


def _moments(tree: Tree, factor: float) -> dict[str, Any]:
    """Return host arrays by path."""
    leaves, structure = flatten(tree, "moments")
    found = {}
    for path, x in zip(structure.paths, leaves, strict=True):
        if x is not None:
            _refuse_complex(path, x)
            host = backend_of(x).to_host(x)
            found[path] = host if factor == 1.0 else host * np.asarray(factor, host.dtype)
    return found
