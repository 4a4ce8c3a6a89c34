"""The array engine: the rule as array expressions of whichever library the arrays are from.

It serves every backend and is the specification that the fused engines must agree with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from .. import _stages as stages
from .._arrays import COMPLEX, COMPUTE, Backend, backend_of
from .._rule import Rule
from .._typing import Array, Scalar

Slots = dict[str, Array]


@dataclass(frozen=True)
class Step:
    """One step, the same for all arrays.

    Attributes
    ----------
    rule : Rule
        The update rule.
    values : dict
        The rule's coefficients by name, and ``scale`` and ``bound`` where gradients are clipped.
    """

    rule: Rule
    values: dict[str, Scalar]


def sweep(
    step: Step,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    slots: Sequence[Slots],
    *,
    in_place: bool,
) -> tuple[list[Array | None], list[Slots]]:
    """Carry out a step on every parameter that has a gradient.

    Parameters
    ----------
    step : Step
        Rule and coefficients.
    params, grads : sequence of array or None
        Parameters and gradients, None where there is nothing to do.
    slots : sequence of dict
        The slots of each parameter, by name.
    in_place : bool
        Whether to write into the parameters that can be written.

    Returns
    -------
    params : list
        The parameters that were written, or new arrays.
    slots : list of dict
        New slots; those given keep their values.
    """
    new_params, new_slots = list(params), list(slots)
    for places in _together(params, grads):
        backend = backend_of(params[places[0]])
        update = _updater(step.rule, backend)
        with backend.guard():
            given = [[sequence[i] for i in places] for sequence in (params, grads, slots)]
            results = update(step.values, *given)
            for i, (p, state) in zip(places, results, strict=True):
                if in_place and backend.writable(params[i]):
                    backend.store(params[i], p)
                else:
                    new_params[i] = p
                new_slots[i] = state
    return new_params, new_slots


def _together(params: Sequence[Array | None], grads: Sequence[Array | None]) -> list[Sequence[int]]:
    """Places of arrays to update in one call: all of a compiled library's, else each alone.

    One at a time keeps the temporaries of uncompiled expressions to those of one array.
    """
    compiled: dict[Any, list[int]] = {}
    alone: list[Sequence[int]] = []
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        if p is None or g is None:
            continue
        backend = backend_of(p)
        if backend.compiles:
            compiled.setdefault((backend.name, backend.device(p)), []).append(i)
        else:
            alone.append((i,))
    return alone + list(compiled.values())


@cache
def _updater(rule: Rule, backend: Backend) -> Callable[..., list[tuple[Array, Slots]]]:
    def updates(
        values: dict[str, Scalar], params: list[Array], grads: list[Array], slots: list[Slots]
    ) -> list[tuple[Array, Slots]]:
        leaves = zip(params, grads, slots, strict=True)
        return [_update(rule, backend, values, p, g, state) for p, g, state in leaves]

    return backend.compile(updates)


def _update(
    rule: Rule, backend: Backend, values: dict[str, Scalar], p: Array, g: Array, slots: Slots
) -> tuple[Array, Slots]:
    """Update one array: widen, clip, apply the rule, narrow."""
    xp, stored = backend.xp, backend.dtype(p)
    compute = COMPUTE[stored]
    scalars = {name: backend.scalar(value, compute, p) for name, value in values.items()}

    def widen(x: Array) -> Array:
        return backend.as_real(x) if backend.dtype(x) in COMPLEX else backend.cast(x, compute)

    def narrow(x: Array, dtype: str) -> Array:
        return backend.array(backend.as_complex(x) if dtype in COMPLEX else backend.cast(x, dtype))

    x, y = widen(p), _widened_gradient(backend, g, stored, widen)
    if "master" in slots:
        master = slots["master"]
        x = stages.heal(x, master, widen(backend.cast(master, stored)), xp)
    if "scale" in scalars:
        y = stages.clip(y, scalars["scale"], scalars["bound"], xp)
    coefficients = (scalars[name] for name in rule.coefficients)
    x, *state = rule(x, y, *(widen(slots[name]) for name in rule.slots), *coefficients, xp)
    new = {
        name: narrow(value, backend.dtype(slots[name]))
        for name, value in zip(rule.slots, state, strict=True)
    }
    if "master" in slots:
        new["master"] = backend.array(x)
    return narrow(x, stored), new


def _widened_gradient(
    backend: Backend, g: Array, stored: str, widen: Callable[[Array], Array]
) -> Array:
    # complex64 gradients of a complex128 parameter widen as complex numbers first.
    return widen(backend.cast(g, stored) if stored in COMPLEX else g)
