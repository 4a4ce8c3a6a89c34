"""The pure form: the state is a value, and a step is a function that a compiler can trace."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array, Namespace, Scalar, Tree
from ..arrays.libraries import Backend, backend_of, is_array
from ..arrays.torch import recording
from ..arrays.trees import Structure, flatten, named
from ..config.groups import STARTING
from ..config.registry import nearest
from ..config.scheduled import value_at
from ..numerics.slots import Layout
from . import checks
from .assignment import assign
from .averages import averages_of
from .executors import Pure, beside_state, not_finite
from .plan import Plan
from .restore import LoadReport
from .save_and_load import load_into
from .session import Session
from .settings import Settings, Values
from .sparse import in_rows, settled
from .state import State, from_tree
from .take import Leaves, Taken, take

if TYPE_CHECKING:
    from .. import persistence

TABLES = ("hyper", "scalars", "slots")
KEYS = {"iterations", "skipped", *TABLES}
"""The keys of a state."""


def initial(session: Session, params: Tree) -> dict[str, Any]:
    """Return the state before the first step, as a value; see `Optimizer.init_state`."""
    # A slot that starts as the parameter must be differentiable with respect to it.
    with recording(params, ()):
        leaves, structure = flatten(params)
        refuse_offload(session.settings, leaves)
        state = session.fresh(leaves, checks.describe(leaves, structure))
        return _as_tree(session.settings, state, structure, leaves)


def step(
    settings: Settings, state: dict[str, Any], grads: Tree, params: Tree
) -> tuple[Tree, dict[str, Any]]:
    """Take one step as a pure function; see `Optimizer.stateless_apply`."""
    with recording(grads, params, state):
        return _step(settings, state, grads, params)


def _step(
    settings: Settings, state: dict[str, Any], grads: Tree, params: Tree
) -> tuple[Tree, dict[str, Any]]:
    checks.state_of_pure_form(state)
    leaves, structure = flatten(params)
    described = checks.describe(leaves, structure)
    gradients, other = flatten(grads, "gradients")
    checks.same_structure(other, structure)
    rows = in_rows(gradients, leaves)
    checks.gradients(gradients if rows is None else rows, leaves, structure)
    compiler, hyper = _compiler(leaves), state["hyper"]
    state = state if compiler else _on_host(state)
    old, plan = _held_in(settings, state, structure, described)
    gradients = gradients if rows is None else settled(plan, rows, leaves, structure)
    values = _traced_values(settings, state, leaves)
    executor = Pure(leaves, old.slots, values, compiler)
    found = take(plan, old, gradients, executor)
    taken = executor.taken
    assert taken is not None
    if found is None:
        skipped = counted(state["skipped"]) if not_finite(taken) else state["skipped"]
        numbers = {**state["scalars"], **taken.numbers}
        kept = {**state, "hyper": hyper, "skipped": skipped, "scalars": numbers}
        return params, _with_norms(kept, state, taken, structure, executor.xp)
    new_leaves, new_slots, scalars = found
    new = State(described, old.names, new_slots, scalars, counted(old.iterations), old.skipped)
    after = _with_norms(new.to_tree(structure, hyper), state, taken, structure, executor.xp)
    result = structure.build(new_leaves), after
    decided = settings.whole["nonfinite"] != "ignore" or taken.seen is not None
    if not executor.traced(taken) or not decided:
        return result
    chosen: tuple[Tree, dict[str, Any]] = _selected(taken, (params, state), result, executor.xp)
    return chosen


def _with_norms(
    tree: dict[str, Any],
    before: dict[str, Any],
    taken: Taken,
    structure: Structure,
    xp: Namespace,
) -> dict[str, Any]:
    """Return a state updated with the norms of a step; norms not computed are left as before."""
    if not taken.settings.measures:
        return tree
    found = dict(taken.norms or {})
    if "gradient" in taken.settings.measures and taken.size.norms is not None:
        found["gradient"] = taken.size.norms
    norms = dict(before.get("norms", {}))
    for word, row in found.items():
        old = flatten(norms[word], "norms")[0] if word in norms else [None] * len(row)
        pairs = zip(row, old, strict=True)
        norms[word] = structure.build([_as_array(b if a is None else a, xp) for a, b in pairs])
    return {**tree, "norms": {word: norms[word] for word in taken.settings.measures}}


def _as_array(x: Scalar | None, xp: Namespace) -> Any:
    return None if x is None else xp.asarray(x, dtype=xp.asarray(0.0).dtype)


def averages(settings: Settings, state: dict[str, Any], params: Tree) -> Tree:
    """Return the averaged parameters as a pure function; see `Optimizer.stateless_averages`."""
    with recording((), params, state):
        leaves, structure = flatten(params)
        described = checks.describe(leaves, structure)
        state = state if _compiler(leaves) else _on_host(state)
        old, plan = _held_in(settings, state, structure, described)
        return averages_of(plan, old, _traced_values(settings, state, leaves), leaves, structure)


def export(session: Session, params: Tree) -> dict[str, Any]:
    """Return the state of a session as a value; see `Optimizer.export_state`."""
    leaves, structure = flatten(params)
    with session.lock:
        session.require_state()
        refuse_offload(session.settings, leaves)
        state = session.ready(leaves, structure)
        slots = [{k: backend_of(x).copy(x) for k, x in held.items()} for held in state.slots]
        return _as_tree(session.settings, replace(state, slots=slots), structure, leaves)


def load(session: Session, state: Any, params: Tree, strict: bool) -> LoadReport:
    """Adopt a state that is a value; see `Optimizer.load_state`."""
    from .. import persistence

    parts = set(state) if isinstance(state, Mapping) else set()
    if not (parts >= KEYS and all(isinstance(state[name], Mapping) for name in TABLES)):
        found = ", ".join(sorted(map(str, parts))) or type(state).__name__
        raise ValueError(
            f"load_state: found {found}, wanted a state as from init_state(): a dict with the keys "
            f"{', '.join(sorted(KEYS))}"
        )
    require_known(session.settings, state["hyper"])
    slots = {name: _by_path(name, tree) for name, tree in state["slots"].items()}
    record: persistence.Record = persistence.Record(
        source="arrayoptim",
        class_name=None,
        config=None,
        iterations=int(state["iterations"]),
        scalars={name: float(x) for name, x in state["scalars"].items()},
        slots={name: list(found.values()) for name, found in slots.items()},
        paths={name: list(found) for name, found in slots.items()},
        skipped=int(state["skipped"]),
        origin="the state",
    )
    hyper, settings = state["hyper"], session.settings
    numbers = {k: float(v) for k, v in hyper.items() if _changed(settings, k, v)}
    return load_into(session, params, record, strict=strict, numbers=numbers)


def refuse_offload(settings: Settings, leaves: Leaves) -> None:
    """Refuse `offload`, as the pure form cannot keep state in host memory for GPU parameters."""
    if any(map(operator.is_not, leaves, beside_state(leaves, settings.whole["offload"]))):
        raise ValueError(
            "offload=True keeps the state of apply() in host memory; the pure form keeps it "
            "with the parameters; set offload=False"
        )


def numbers_in(settings: Settings) -> dict[str, Any]:
    """Return all numeric hyperparameters; those of group k have the prefix ``k.``."""
    return {
        member.prefix + name: value
        for member in settings.members
        for name, declared in member.formula.hyperparameters.items()
        if name in member.values and name not in STARTING and declared.numeric
        for value in [member.values[name]]
        if value is not None and not callable(value)
    }


def require_known(settings: Settings, names: Iterable[str]) -> None:
    """Refuse hyperparameters that no step reads; values may be tracers."""
    known = {
        member.prefix + name: None
        for member in settings.members
        for name in member.values
        if member.formula.hyperparameters[name].numeric
    }
    for name in names:
        if name not in known:
            raise ValueError(
                f'state["hyper"]: {type(settings.formula).__name__} has no numeric hyperparameter '
                f"{name!r}{nearest(name, list(known))}; it has {', '.join(known)}"
            )


def _as_tree(
    settings: Settings, state: State, structure: Structure, leaves: Leaves
) -> dict[str, Any]:
    """Return a state as a value; scalars become arrays if a compiler may trace them."""
    tree = state.to_tree(structure, numbers_in(settings))
    compiler = _compiler(leaves)
    if settings.measures:
        zeros = [None if x is None else np.float64(0.0) for x in leaves]
        tree["norms"] = {word: structure.build(zeros) for word in settings.measures}
    return tree if compiler is None else with_arrays(tree, compiler.xp)


def _held_in(
    settings: Settings,
    state: dict[str, Any],
    structure: Structure,
    described: tuple[checks.Leaf | None, ...],
) -> tuple[State, Plan]:
    """Check a state given as a value, and return it in the form that steps use."""
    plan = Plan(settings, assign(settings, described))
    flat = _slot_leaves(state, structure, described, plan.assignment.layouts)
    found = from_tree(state, described, flat)
    plan.check(found)
    return found, plan


def _traced_values(settings: Settings, state: dict[str, Any], leaves: Leaves) -> Values:
    """Return the hyperparameters of a step; those in the state take precedence."""
    require_known(settings, state["hyper"])
    found, it, compiler = [], state["iterations"], _compiler(leaves)
    for member in settings.members:
        row = {}
        for name, value in member.values.items():
            prefix = member.prefix + name
            if prefix in state["hyper"]:
                row[name] = state["hyper"][prefix]
            elif callable(value) and compiler is not None:
                row[name] = value_at(value, it, state["scalars"], f"{prefix}.")
            elif callable(value):
                declared = member.formula.hyperparameters[name].under(
                    member.values.get("preset"), member.formula._unbounded
                )
                row[name] = declared.at(value, it, state["scalars"], member.prefix)
            else:
                row[name] = value
        found.append(row)
    return found


def _slot_leaves(
    state: dict[str, Any],
    structure: Structure,
    described: Sequence[checks.Leaf | None],
    layouts: Sequence[Layout | None],
) -> dict[str, list[Array]]:
    flat = {}
    pairs = zip(described, layouts, strict=True)
    shapes = [o.shapes(leaf.shape, leaf.dtype) if leaf and o else {} for leaf, o in pairs]
    for name, tree in state["slots"].items():
        leaves, other = flatten(tree, f"slot {name!r}")
        if other.paths != structure.paths:
            raise ValueError(
                f"slot {name!r} of the state has the leaves {list(other.paths)}, but the "
                f"parameters have {list(structure.paths)}"
            )
        for path, x, wanted in zip(structure.paths, leaves, shapes, strict=True):
            if x is not None and name in wanted and tuple(x.shape) != wanted[name]:
                raise ValueError(
                    f"slot {name!r} of {named(path)}: found shape {tuple(x.shape)}, "
                    f"wanted {wanted[name]}"
                )
        rows = zip(leaves, described, strict=True)
        # Slots that a parameter lacks are represented by empty arrays, as in optax.
        found = [
            None if x is not None and leaf and _lacks(x, leaf, wanted.get(name)) else x
            for (x, leaf), wanted in zip(rows, shapes, strict=True)
        ]
        if any(x is not None for x in found) or all(x is None for x in leaves):
            flat[name] = found
    return flat


def _lacks(x: Array, leaf: checks.Leaf, wanted: tuple[int, ...] | None) -> bool:
    # The row slot of a matrix with 0 rows also has shape (0,), but is a real slot.
    return tuple(x.shape) == (0,) and leaf.shape != (0,) and wanted != (0,)


def _changed(settings: Settings, key: str, value: Any) -> bool:
    """Whether a value in a state differs from the optimizer's, in the state's precision."""
    group, _, name = key.rpartition(".")
    ours = settings.members[int(group or 0)].values.get(name)
    same = not callable(ours) and np.asarray(ours, np.asarray(value).dtype) == np.asarray(value)
    if same:
        return False
    if group:
        raise ValueError(
            f"group {group}: found {name}={float(value)!r} in the state but {ours!r} in the "
            "optimizer; set it in the optimizer first"
        )
    return True


def _by_path(name: str, tree: Tree) -> dict[str, Any]:
    """Return the arrays of a slot on the host, by parameter path."""
    leaves, structure = flatten(tree, f"slot {name!r}")
    pairs = zip(structure.paths, leaves, strict=True)
    return {path: backend_of(x).to_host(x) for path, x in pairs if x is not None}


def with_arrays(tree: dict[str, Any], xp: Namespace) -> dict[str, Any]:
    """Return a state whose scalars are arrays of the compiler's library."""
    kind, real = xp.asarray(0).dtype, xp.asarray(0.0).dtype
    tree = {**tree, **{k: xp.asarray(tree[k], dtype=kind) for k in ("iterations", "skipped")}}
    for group in ("hyper", "scalars"):
        tree[group] = {k: xp.asarray(v, dtype=real) for k, v in tree[group].items()}
    if "norms" in tree:
        leaves, structure = flatten(tree["norms"], "norms")
        tree["norms"] = structure.build([_as_array(x, xp) for x in leaves])
    return tree


def _selected(taken: Taken, old: Any, new: Any, xp: Namespace) -> Any:
    """Select the old parameters and state if a gradient was not finite, or a spike."""
    params, state = old
    state, after = with_arrays(state, xp), with_arrays(new[1], xp)
    skipped, taking = state["skipped"], xp.asarray(True)
    if taken.settings.whole["nonfinite"] == "skip":
        taking = xp.isfinite(taken.size.norm)
        skipped = xp.where(taking, skipped, counted(skipped))
    numbers = {name: after["scalars"][name] for name in taken.numbers}
    state = {**state, "skipped": skipped, "scalars": {**state["scalars"], **numbers}}
    if "gradient" in after.get("norms", {}):
        state["norms"] = {**state["norms"], "gradient": after["norms"]["gradient"]}
    if taken.seen is not None:
        taking = taking & ~xp.asarray(taken.seen.spike)
    leaves, structure = flatten((new[0], after), "state")
    kept, _ = flatten((params, state), "state")
    pairs = zip(leaves, kept, strict=True)
    return structure.build([None if a is None else xp.where(taking, a, b) for a, b in pairs])


def _on_host(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state whose scalars are Python numbers, if no array's library compiles."""

    def number(x: Any) -> Any:
        return x.item() if is_array(x) else x

    counts = {name: number(state[name]) for name in ("iterations", "skipped")}
    rows = {row: {k: number(x) for k, x in state[row].items()} for row in ("hyper", "scalars")}
    return {**state, **counts, **rows}


def counted(count: Scalar) -> Scalar:
    """Return a counter plus one, saturating at the largest value of its dtype."""
    if not is_array(count):
        return count + 1
    backend = backend_of(count)
    kind = backend.dtype(count)
    return count + backend.cast(count < np.iinfo(kind).max, kind)


def _compiler(leaves: Leaves) -> Backend | None:
    """Return the library that may compile the step; None unless all arrays belong to one."""
    backends = {backend_of(x) for x in leaves if x is not None}
    if len(backends) == 1:
        only = backends.pop()
        return only if only.compiles else None
    return None
