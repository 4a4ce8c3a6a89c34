"""The torch optimizer class for each class of this library."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from ...arrays.libraries import type_name
from ...arrays.trees import flatten
from ...config.registry import OPTIMIZERS, lookup, names, require_one_model
from ...config.torch import Native, native_of, natives_of
from ...optimizer import Optimizer
from ...optimizers._curvature import CurvatureOptimizer
from ...step.session import session_of
from ..continuing import has_state
from .base import TorchOptimizer
from .curvature import update_hessian
from .spelling import Spelling

_MADE: dict[tuple[type[Optimizer], str], type[TorchOptimizer]] = {}


def class_of(core: type[Optimizer], row: Native | None = None) -> type[TorchOptimizer]:
    """Return the subclass of ``torch.optim.Optimizer`` for a class of optimizers.

    Parameters
    ----------
    core : type
        The class of this library.
    row : Native, optional
        The class of torch that it replaces, if there are several.
    """
    if row is None and OPTIMIZERS.holds(core):
        row = next(iter(natives_of(core.__name__)), None)
    key = core, "" if row is None else row.theirs
    if key not in _MADE:
        _MADE[key] = _made(core, row)
    return _MADE[key]


def class_named(name: str) -> type[TorchOptimizer] | None:
    """Return the class with torch's name or ours; None if there is none."""
    row = native_of(name)
    if row is not None and row.theirs == name:
        return class_of(lookup(row.ours), row)
    return class_of(lookup(name)) if name in names() else None


def _made(core: type[Optimizer], row: Native | None) -> type[TorchOptimizer]:
    spelling = Spelling(core, row)
    told = f"`arrayoptim.{core.__name__}` for torch; see there."
    body = {
        "core": core,
        "spelling": spelling,
        "__module__": __package__,
        "__doc__": f"{told}\n\n{core.__doc__ or ''}",
        "__signature__": inspect.Signature(spelling.parameters),
    }
    if issubclass(core, CurvatureOptimizer):
        body["update_hessian"] = update_hessian
    return type(spelling.name, (TorchOptimizer,), body)


def wrap(optimizer: Optimizer, params: Any) -> TorchOptimizer:
    """Return a torch optimizer with the settings and state of an optimizer of this library.

    Parameters
    ----------
    optimizer : Optimizer
        Any optimizer of this library; its class need not be registered. Its state, including
        loaded state, is shared, not copied: use only one of the two from then on.
    params : iterable
        Parameters as for the classes of this module. For state that is keyed by name, pass pairs
        of name and parameter, as from ``model.named_parameters()``.

    Returns
    -------
    TorchOptimizer
        With `optimizer`'s class as its ``core``.

    Raises
    ------
    TypeError
        If it is not an optimizer of this library, or a hyperparameter is a schedule.
    ValueError
        If it has groups, `models`, or state that belongs to other parameters.

    Examples
    --------
    >>> import torch
    >>> import arrayoptim as ao
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = ao.torch.wrap(ao.SGD(lr=0.1, clipnorm=1.0), model.parameters())
    >>> optimizer.param_groups[0]["clipnorm"]
    1.0
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"wrap: found {type_name(type(optimizer))}, wanted an "
            "optimizer of arrayoptim; a wrapper steps tensors with its own apply"
        )
    if optimizer.groups:
        raise ValueError(f"wrap: {optimizer!r} has groups; pass torch's parameter groups instead")
    require_one_model(optimizer, "wrap", "torch steps the parameters of one")
    cls = class_of(type(optimizer))
    made = cls(params, **cls.spelling.keyed(session_of(optimizer).settings.whole))
    if has_state(optimizer):
        _take_over(optimizer, made)
    return made


def _take_over(optimizer: Optimizer, made: TorchOptimizer) -> None:
    if len(made.param_groups) > 1:
        raise ValueError(
            f"wrap: {optimizer!r} has state for one tree of parameters, but found "
            f"{len(made.param_groups)} parameter groups; pass one"
        )
    group = made.param_groups[0]
    names = group.get("param_names")
    tree = dict(zip(names, group["params"])) if names else list(group["params"])
    optimizer.init(tree)
    state = session_of(optimizer).state
    assert state is not None
    words = made.spelling.state_names(optimizer.preset)
    numbers = {"step": state.iterations, "skipped": state.skipped, **state.scalars}
    counted = {name: torch.tensor(float(x), dtype=torch.float64) for name, x in numbers.items()}
    for p, slots in zip(flatten(tree)[0], state.slots, strict=True):
        made.state[p] = {words.get(k, k): x for k, x in {**counted, **slots}.items()}
