"""The array engine: the rule as array expressions of whichever library the arrays are from.

It serves every backend and is the specification that the fused engines must agree with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
        The rule's coefficients by name, and those of the stages that the step has: ``scale`` and
        ``bound``, ``l2``, ``amount`` of decay, ``keep`` and ``new`` of the average.
    each : dict
        Further ones of which each array has its own.
    """

    rule: Rule
    values: dict[str, Scalar]
    each: dict[str, list[Scalar]] = field(default_factory=dict)

    def own(self, i: int) -> dict[str, Scalar]:
        """Give the numbers that the array at one place has for itself."""
        return {name: values[i] for name, values in self.each.items()}


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

    def put(i: int, result: tuple[Array, Slots]) -> None:
        backend = backend_of(params[i])
        if in_place and backend.writable(params[i]):
            backend.store(params[i], result[0])
        else:
            new_params[i] = result[0]
        new_slots[i] = result[1]

    compiled: dict[Any, list[int]] = {}
    operands: dict[Any, dict[str, Scalar]] = {}
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        if p is None or g is None:
            continue
        backend = backend_of(p)
        if backend.compiles:
            compiled.setdefault((backend, backend.device(p)), []).append(i)
            continue
        with backend.guard():
            key = backend, backend.dtype(p), backend.device(p)
            if key not in operands:
                operands[key] = _operands(step.values, backend, p)
            scalars = operands[key] | _operands(step.own(i), backend, p)
            put(i, _update(step.rule, backend, scalars, p, g, slots[i]))
    for (backend, _), places in compiled.items():
        given = [[sequence[i] for i in places] for sequence in (params, grads, slots)]
        own = [step.own(i) for i in places]
        results = _compiled(step.rule, backend)(step.values, own, *given)
        for i, result in zip(places, results, strict=True):
            put(i, result)
    return new_params, new_slots


@cache
def _compiled(rule: Rule, backend: Backend) -> Callable[..., list[tuple[Array, Slots]]]:
    """Give the update of many arrays as one compiled function."""

    def updates(
        values: dict[str, Scalar],
        each: list[dict[str, Scalar]],
        params: list[Array],
        grads: list[Array],
        slots: list[Slots],
    ) -> list[tuple[Array, Slots]]:
        return [
            _update(rule, backend, _operands(values | own, backend, p), p, g, state)
            for own, p, g, state in zip(each, params, grads, slots, strict=True)
        ]

    return backend.compile(updates)


def _operands(values: dict[str, Scalar], backend: Backend, p: Array) -> dict[str, Scalar]:
    """Give the numbers of a step as operands of the type in which a parameter is computed."""
    compute = COMPUTE[backend.dtype(p)]
    return {name: backend.scalar(value, compute, p) for name, value in values.items()}


def _update(
    rule: Rule, backend: Backend, scalars: dict[str, Scalar], p: Array, g: Array, slots: Slots
) -> tuple[Array, Slots]:
    """Update one array: widen, go through the stages and the rule, narrow."""
    xp, stored = backend.xp, backend.dtype(p)
    compute = COMPUTE[stored]

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
    if "l2" in scalars:
        y = stages.couple(y, x, scalars["l2"], xp)
    if "amount" in scalars:
        x = stages.decay(x, scalars["amount"], xp)
    coefficients = (scalars[name] for name in rule.coefficients)
    x, *state = rule(x, y, *(widen(slots[name]) for name in rule.slots), *coefficients, xp)
    new = dict(zip(rule.slots, state, strict=True))
    if "master" in slots:
        new["master"] = x
    if "average" in slots:
        average = widen(slots["average"])
        new["average"] = stages.average(average, x, scalars["keep"], scalars["new"], xp)
    narrowed = {name: narrow(value, backend.dtype(slots[name])) for name, value in new.items()}
    return narrow(x, stored), narrowed


def _widened_gradient(
    backend: Backend, g: Array, stored: str, widen: Callable[[Array], Array]
) -> Array:
    # complex64 gradients of a complex128 parameter widen as complex numbers first.
    return widen(backend.cast(g, stored) if stored in COMPLEX else g)
