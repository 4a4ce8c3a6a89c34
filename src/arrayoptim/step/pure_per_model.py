"""The pure form of many models: that of one model, mapped over the first axis of each array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._typing import Tree
from ..arrays.libraries import backend_of, is_array
from ..arrays.trees import flatten
from ..config.per_model import Each, EachKeeping
from ..config.scheduled import value_at
from . import pure
from .per_model import require_models, stacked
from .population import alone, put_in, taken_out
from .restore import LoadReport
from .session import Session
from .settings import Settings

State = dict[str, Any]


def initial(session: Session, params: Tree) -> State:
    """Return the state before the first step; the first axis of each entry counts models."""
    settings = session.settings
    one = _one(settings)

    def initial_one(p: Tree) -> tuple[None, State]:
        return None, pure.initial(one._session, p)

    state: State = _over(settings, params, initial_one, params)[1]
    return {**state, "hyper": _hyper(settings, state["hyper"])}


def step(settings: Settings, state: State, grads: Tree, params: Tree) -> tuple[Tree, State]:
    """Take one step of each model as a pure function."""
    one, inside = _one(settings), _at_their_steps(settings, state)

    def step_one(held: State, g: Tree, p: Tree) -> tuple[Tree, State]:
        return pure.step(one._session.settings, held, g, p)

    new, after = _over(settings, params, step_one, inside, grads, params)
    return new, {**after, "hyper": state["hyper"]}


def averages(settings: Settings, state: State, params: Tree) -> Tree:
    """Return each model's averaged parameters."""
    one, inside = _one(settings), _at_their_steps(settings, state)

    def averages_one(held: State, p: Tree) -> tuple[Tree, None]:
        return pure.averages(one._session.settings, held, p), None

    return _over(settings, params, averages_one, inside, params)[0]


def export(session: Session, params: Tree) -> State:
    """Return a session's state as a value."""
    session.ready(*session.flat(params))
    parts = _parts(params, _models(session.settings))
    made = [taken_out(session, m) for m in range(len(parts))]
    states = [pure.export(one._session, p) for one, p in zip(made, parts, strict=True)]
    state = _joined_states(states)
    return {**state, "hyper": _hyper(session.settings, state["hyper"])}


def load(session: Session, state: Any, params: Tree, strict: bool) -> LoadReport:
    """Adopt a state given as a value; if some model's part does not fit, nothing changes."""
    session.ready(*session.flat(params))
    models = _models(session.settings)
    states, loaded = _parts(state, models), []
    for m, (held, p) in enumerate(zip(states, _parts(params, models), strict=True)):
        one = taken_out(session, m)
        loaded.append((one, pure.load(one._session, held, p, strict)))
    for m, (one, _) in enumerate(loaded):
        put_in(session, m, one)
    return loaded[0][1]


def _models(settings: Settings) -> int:
    assert settings.models is not None
    return settings.models


def _one(settings: Settings) -> Any:
    """Return an optimizer of one model with the rule and options that all models share."""
    for prefix, schedule in settings.keeping:
        if isinstance(schedule, EachKeeping):
            raise ValueError(
                f"{prefix.rstrip('.')}: a schedule with state cannot differ between models in "
                "the pure form; apply() supports it"
            )
    return alone(settings.formula, 0)


def _hyper(settings: Settings, hyper: dict[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters in a state, including those that differ between models."""
    like: Any = next(iter(hyper.values()), None)
    found = dict(hyper)
    for name, value in _each(settings).items():
        if any(map(callable, value)):
            found.pop(name, None)
        elif is_array(like) and backend_of(like).compiles:
            xp = backend_of(like).xp
            found[name] = xp.asarray(np.array(value), dtype=like.dtype)
        else:
            found[name] = np.array(value, np.float64)
    return found


def _each(settings: Settings) -> dict[str, Each]:
    return {
        member.prefix + name: value
        for member in settings.members
        for name, value in member.values.items()
        if isinstance(value, Each)
    }


def _at_their_steps(settings: Settings, state: State) -> State:
    """Return a state with each model's schedules evaluated at that model's step count."""
    found = dict(state["hyper"])
    for name, values in _each(settings).items():
        if not any(map(callable, values)):
            continue
        row = [
            value_at(value, state["iterations"][m], {}, "") if callable(value) else value
            for m, value in enumerate(values)
        ]
        made = [x for x in row if is_array(x)]
        xp = backend_of(made[0]).xp if made else np
        found[name] = xp.stack([xp.asarray(x, dtype=xp.asarray(0.0).dtype) for x in row])
    return {**state, "hyper": found}


def _over(
    settings: Settings, params: Tree, function: Callable[..., tuple[Tree, Any]], *trees: Tree
) -> tuple[Tree, Any]:
    """Map a function of one model's arrays over all models."""
    leaves, structure = flatten(params)
    models = _models(settings)
    require_models(leaves, models, structure.paths)
    backends = {backend_of(x) for x in leaves if x is not None}
    mapped = backends.pop().mapped(function) if len(backends) == 1 else None
    if mapped is not None:
        found: tuple[Tree, Any] = mapped(*trees)
        return found
    rows = [_parts(tree, models) for tree in trees]
    results = [function(*row) for row in zip(*rows, strict=True)]
    states = [held for _, held in results]
    return (
        None if results[0][0] is None else _joined([new for new, _ in results]),
        None if states[0] is None else _joined_states(states),
    )


def _parts(tree: Tree, models: int) -> list[Tree]:
    """Return each model's part of a tree of arrays."""
    leaves, structure = flatten(tree)
    require_models(leaves, models, structure.paths)
    return [
        structure.build([None if x is None else x[m, ...] for x in leaves]) for m in range(models)
    ]


def _joined(trees: Sequence[Tree]) -> Tree:
    rows = [flatten(tree) for tree in trees]
    columns = zip(*(leaves for leaves, _ in rows), strict=True)
    return rows[0][1].build([_stacked(column) for column in columns])


def _joined_states(states: Sequence[State]) -> State:
    first = states[0]
    found: State = {k: _stacked([s[k] for s in states]) for k in ("iterations", "skipped")}
    for table in ("hyper", "scalars"):
        shared = [k for k in first[table] if all(k in s[table] for s in states)]
        found[table] = {k: _stacked([s[table][k] for s in states]) for k in shared}
    found["slots"] = {k: _joined([s["slots"][k] for s in states]) for k in first["slots"]}
    return {k: found[k] if k in found else _nested([s[k] for s in states]) for k in first}


def _nested(values: Sequence[Any]) -> Any:
    """Return nested dicts of numbers, such as norms, stacked over models."""
    if not isinstance(values[0], dict):
        return _stacked(values)
    return {k: _nested([v[k] for v in values]) for k in values[0] if all(k in v for v in values)}


def _stacked(values: Sequence[Any]) -> Any:
    if values[0] is None:
        return None
    return stacked(values) if is_array(values[0]) else np.array(values)
