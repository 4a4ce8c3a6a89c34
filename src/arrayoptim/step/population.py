"""One of many models: extracted as an optimizer of its own, and written back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.libraries import backend_of
from ..config.groups import ALONE
from ..config.per_model import Each, row
from . import checks
from .settings import Settings, settings_of
from .state import Clock, State, one_count

if TYPE_CHECKING:
    from .session import Session

_FREE = ALONE | {"name", "models", "groups"}
"""Options that may differ between a population and an optimizer written into it."""


def alone(formula: Any, model: int) -> Any:
    """Return an optimizer without state, with the hyperparameters of one model."""
    values = {**formula.get_config(), "groups": formula._hyper["groups"]}
    values |= _of(formula._hyper, model)
    del values["models"]
    groups = []
    for each in formula._hyper["groups"]:
        inner = each.optimizer
        if inner is not None and inner._hyper["models"] is not None:
            inner = alone(inner, model)
        groups.append(replace(each, settings=_of(each.settings, model, True), optimizer=inner))
    return type(formula).from_config({**values, "groups": tuple(groups)})


def _of(values: Mapping[str, Any], model: int, rest: bool = False) -> dict[str, Any]:
    return {
        name: value[model] if isinstance(value, Each) else value
        for name, value in values.items()
        if rest or isinstance(value, Each)
    }


def _found(session: Session, model: Any) -> tuple[int, int, State, Clock]:
    """Return a model's index, the number of models, their state, and the model's clock.

    Raises
    ------
    ValueError
        If the optimizer has only one model, no model with this index, or no state yet.
    """
    models, name = session.settings.models, type(session.formula).__name__
    if models is None:
        raise ValueError(f"{name}: found one model, wanted an optimizer with models=")
    state = session.state
    if state is None:
        raise ValueError(f"{name} has no state yet; call init(params) or take a step first")
    number = int(np.asarray(model)) if np.ndim(model) == 0 else -1
    if not 0 <= number < models or number != model:
        raise ValueError(f"{name}: found model {model!r}, wanted an integer in [0, {models})")
    assert state.models is not None
    return number, models, state, state.models


def _of_one(leaves: Sequence[checks.Leaf | None]) -> tuple[checks.Leaf | None, ...]:
    """Return the descriptions of pieces, changed to those of arrays that are not pieces."""
    return tuple(leaf and checks.Leaf(leaf.name, leaf.shape, leaf.dtype) for leaf in leaves)


def taken_out(session: Session, model: Any) -> Any:
    """Return an optimizer with a copy of one model's state; see `Optimizer.take_model`."""
    model, models, state, of_models = _found(session, model)
    made = alone(session.formula, model)
    inside: Session = made._session
    slots = [
        {name: backend_of(x).copy(x) for name, x in own.items()}
        for own in state.slots[model::models]
    ]
    leaves = _of_one(state.leaves[model::models])
    # A model with a hyperparameter of 0 may need fewer slots than others.
    layouts = inside.assign(leaves).layouts
    for own, leaf, layout in zip(slots, leaves, layouts, strict=True):
        for name in set(own) - set(layout.slots(leaf.dtype) if layout and leaf else own):
            del own[name]
    held = state.moment.scalars
    scalars = {
        name: float(held[name][model]) if name in of_models.scalars else held[source]
        for name, source in _sources(session.settings, inside.settings, model).items()
    }
    names = tuple(name for name in state.names if any(name in own for own in slots))
    found = State(leaves, names, slots, scalars, int(state.counts[model]))
    inside.replace(found)
    return made


def _sources(settings: Settings, inside: Settings, model: int) -> dict[str, str]:
    """Return the name in the state of many models for each scalar of one model."""
    kept = {prefix for prefix, schedule in settings.keeping if isinstance(schedule, Each)}
    names = {}
    for name in inside.initial_scalars():
        prefix = next((p for p in kept if name.startswith(p)), None)
        own = name if prefix is None else f"{prefix}{model}.{name.removeprefix(prefix)}"
        names[name] = own
    return names


def put_in(session: Session, model: Any, other: Any) -> None:
    """Write an optimizer's state and hyperparameters into one model; see `Optimizer.put_model`."""
    model, models, state, of_models = _found(session, model)
    formula: Any = session.formula
    if type(other) is not type(formula) or other._hyper["models"] is not None:
        raise ValueError(
            f"put_model: found {other!r}, wanted {type(formula).__name__} of one model, such as "
            "take_model returns"
        )
    source = other._session.state
    if source is None:
        raise ValueError(f"put_model: {other!r} has no state yet; call its init(params) first")
    checks.same_tree(_of_one(state.leaves[::models]), source.leaves)
    hyper = _merged(formula, other, model, models)
    before = formula._hyper
    try:
        formula._hyper = hyper
        changed = settings_of(formula)
        held = {**changed.initial_scalars(), **state.scalars}
        numbers = {k: held[k] for k in changed.initial_scalars()}
        rows = {k: row(v) for k, v in of_models.scalars.items()}
        for name, target in _sources(changed, other._session.settings, model).items():
            if name in rows:
                rows[name][model] = source.scalars[name]
            elif name != target:
                numbers[target] = source.scalars[name]
        for own, put in zip(state.slots[model::models], source.slots, strict=True):
            kinds, theirs = _kinds(own), _kinds(put)
            if not theirs.items() <= kinds.items():
                raise ValueError(f"put_model: found the slots {theirs}, wanted {kinds}")
    except BaseException:
        formula._hyper = before
        raise
    for own, put in zip(state.slots[model::models], source.slots, strict=True):
        for name, target in own.items():
            backend = backend_of(target)
            with backend.guard(target):
                # A slot that the optimizer lacks has no effect in its step; 0 is as good as any
                # value.
                new = put[name] if name in put else backend.zeros(target, backend.dtype(target))
                backend.store(target, backend.copy(new))
    counts = state.counts
    counts[model] = source.iterations
    state.scalars, state.models = numbers, Clock(one_count(counts), rows)
    state.iterations = int(max(counts))


def _kinds(slots: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (backend_of(x).dtype(x), tuple(x.shape)) for name, x in slots.items()}


def _merged(formula: Any, other: Any, model: int, models: int) -> dict[str, Any]:
    """Return the hyperparameters of many models, with one model's replaced by an optimizer's."""
    if type(formula) is not type(other):
        raise ValueError(f"put_model: found {other!r}, wanted a {type(formula).__name__}")
    ours, theirs = formula._hyper, other._hyper
    hyper = {
        name: _one_of(type(formula).hyperparameters[name], ours[name], theirs[name], model, models)
        if name not in _FREE
        else ours[name]
        for name in ours
    }
    if len(ours["groups"]) != len(theirs["groups"]):
        raise ValueError(
            f"put_model: found {len(theirs['groups'])} groups, wanted {len(ours['groups'])}"
        )
    groups = []
    for a, b in zip(ours["groups"], theirs["groups"], strict=True):
        if a.patterns != b.patterns or a.settings.keys() != b.settings.keys():
            raise ValueError(f"put_model: found the group {b!r}, wanted one like {a!r}")
        own = type(formula).hyperparameters
        settings = {
            name: _one_of(own[name], a.settings[name], b.settings[name], model, models)
            for name in a.settings
        }
        inner = a.optimizer
        if inner is not None:
            inside = _merged(inner, b.optimizer, model, models)
            inner = type(inner).from_config(inner.get_config())
            inner._hyper = inside
        groups.append(replace(a, settings=settings, optimizer=inner))
    if any(isinstance(value, Each) for value in hyper.values()):
        hyper["models"] = models
    found: dict[str, Any] = formula._fitting({**hyper, "groups": tuple(groups)})
    return found


def _one_of(declared: Any, ours: Any, theirs: Any, model: int, models: int) -> Any:
    values = list(ours) if isinstance(ours, Each) else [ours] * models
    old = values[model]
    if old is theirs or old == theirs:
        return ours
    if not declared.numeric or old is None or theirs is None:
        raise ValueError(
            f"put_model: found {declared.name}={theirs!r}, wanted {old!r}, which all models share"
        )
    values[model] = theirs
    return Each(values)
