"""The array engine: the rule as array expressions of whichever library the arrays are from.

It serves every backend and is the specification that the fused engines must agree with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np

from ..._typing import Array, Namespace, Scalar
from ...arrays.libraries import COMPLEX, COMPUTE, Backend, backend_of
from ...numerics.slots import Layout
from ...rules import stages
from ...rules.rule import Rule
from ..totals import ratio, totals
from .stacks import stacks

Slots = dict[str, Array]
Act = Callable[..., Any]


@dataclass(frozen=True)
class Step:
    """One step of the parameters that have the same rule and slots.

    Attributes
    ----------
    layout : Layout
        The update rule, and the slots of the parameters.
    values : dict of str to dict
        For each type of arithmetic the rule's coefficients by name, and those of the stages that
        the step has: ``scale`` and ``bound``, ``l2``, ``amount`` of decay, ``floor`` and
        ``ceiling``, ``keep`` and ``new`` of the average; and ``units`` of adaptive clipping, which
        comes before. A list holds one number for each parameter of the tree.
    seed : int or None
        The seed of the step where slots are rounded by chance.
    places : sequence of int
        Places of the parameters among those of the tree.
    """

    layout: Layout
    values: dict[str, dict[str, Scalar | list[Scalar]]]
    seed: int | None
    places: Sequence[int]

    def shared(self, compute: str) -> dict[str, Scalar]:
        """Give the numbers that arrays of one type of arithmetic have in common."""
        return {k: v for k, v in self.values[compute].items() if not isinstance(v, list)}

    def own(self, compute: str, i: int) -> dict[str, Scalar]:
        """Give the numbers that the array at one place has for itself."""
        return {k: v[i] for k, v in self.values[compute].items() if isinstance(v, list)}

    def numbers(self, compute: str, i: int) -> dict[str, Scalar]:
        """Give all numbers that the array at one place has."""
        return self.shared(compute) | self.own(compute, i)


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
        Rule, coefficients and places.
    params, grads : sequence of array or None
        Parameters and gradients of the tree, None where there is nothing to do.
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
    for i, (p, state) in _results(step, params, grads, slots, _update):
        backend = backend_of(params[i])
        with backend.guard(params[i]):
            if in_place and backend.writable(params[i]):
                backend.store(params[i], p)
            else:
                new_params[i] = p
            # The fused engines go through a parameter and its slots in one order.
            new_slots[i] = {name: backend.ordered(x, slots[i][name]) for name, x in state.items()}
    return new_params, new_slots


def measure(
    step: Step,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    slots: Sequence[Slots],
) -> dict[int, list[Scalar]]:
    """Give what a step has to know of every parameter that has a gradient, by its place.

    Parameters
    ----------
    step : Step
        A step of a rule that measures.
    params, grads, slots : sequence
        As for `sweep`.

    Returns
    -------
    dict of int to list of scalar
        The totals of each: floats, or 0-d arrays where a library compiles.
    """
    return dict(_results(step, params, grads, slots, _totals))


def _results(
    step: Step,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    slots: Sequence[Slots],
    act: Act,
) -> Iterator[tuple[int, Any]]:
    """Give one after another the place of a parameter and what is made of it."""
    compiled: dict[Any, list[int]] = {}
    eager: list[int] = []
    matrices = step.layout.rule.kind == "matrix"
    for i in step.places:
        p = params[i]
        if p is None or grads[i] is None or (matrices and 0 in p.shape):
            continue
        backend = backend_of(p)
        if backend.compiles:
            compiled.setdefault((backend, backend.device(p)), []).append(i)
        else:
            eager.append(i)
    yield from _eager(step, params, grads, slots, eager, act)
    for (backend, _), places in compiled.items():
        if step.seed is not None:
            raise ValueError(f"stochastic rounding does not serve {backend.name} arrays")
        given = [[sequence[i] for i in places] for sequence in (params, grads, slots)]
        shared = {compute: step.shared(compute) for compute in step.values}
        each = [step.own(COMPUTE[backend.dtype(params[i])], i) for i in places]
        done = _compiled(step.layout, backend, act)(shared, each, *given)
        yield from zip(places, done, strict=True)


def _eager(
    step: Step,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    slots: Sequence[Slots],
    places: Sequence[int],
    act: Act,
) -> Iterator[tuple[int, Any]]:
    operands: dict[Any, dict[str, Scalar]] = {}
    for alike in stacks(step, params, grads, places):
        i = alike[0]
        p, g, held = params[i], grads[i], slots[i]
        assert p is not None
        shape, backend = tuple(p.shape), backend_of(p)
        with backend.guard(p):
            compute = COMPUTE[backend.dtype(p)]
            key = backend, compute, backend.device(p)
            if key not in operands:
                operands[key] = _operands(step.shared(compute), backend, p)
            own = step.own(compute, i)
            scalars = operands[key] | _operands(own, backend, p)
            numbers = step.shared(compute) | own if step.layout.rule.ratio else {}
            if len(alike) > 1:
                p, g = (backend.xp.stack([row[k] for k in alike]) for row in (params, grads))
                held = {n: backend.xp.stack([slots[k][n] for k in alike]) for n in held}
            place = i, step.seed
            result = act(step.layout, backend, scalars, numbers, place, p, g, held, shape)
            if len(alike) > 1:
                new, state = result
                for k, one in enumerate(alike):
                    # Not views: what is saved or handed on would hold on to the whole stack.
                    yield one, (new[k, ...], {n: backend.copy(x[k, ...]) for n, x in state.items()})
                continue
        yield i, result


@cache
def _compiled(layout: Layout, backend: Backend, act: Act) -> Callable[..., list[Any]]:
    """Give what is made of many arrays as one compiled function."""

    def acts(
        shared: dict[str, dict[str, Scalar]],
        each: list[dict[str, Scalar]],
        params: list[Array],
        grads: list[Array],
        slots: list[Slots],
    ) -> list[Any]:
        def done(own: dict[str, Scalar], p: Array, g: Array, held: Slots) -> Any:
            numbers = shared[COMPUTE[backend.dtype(p)]] | own
            scalars = _operands(numbers, backend, p)
            shape = tuple(p.shape)
            return act(layout, backend, scalars, numbers, (0, None), p, g, held, shape)

        return list(map(done, each, params, grads, slots))

    return backend.compile(acts)


def _operands(values: dict[str, Scalar], backend: Backend, p: Array) -> dict[str, Scalar]:
    """Give the numbers of a step as operands of the type in which a parameter is computed."""
    compute = COMPUTE[backend.dtype(p)]
    return {name: backend.scalar(value, compute, p) for name, value in values.items()}


def _begun(
    layout: Layout, backend: Backend, scalars: dict[str, Scalar], p: Array, g: Array, slots: Slots
) -> tuple[Array, ...]:
    """Give parameter, gradient and the rule's slots, widened and through the stages before it."""
    xp, stored = backend.xp, backend.dtype(p)

    def widen(x: Array) -> Array:
        return _widened(backend, x, COMPUTE[stored])

    # complex64 gradients of a complex128 parameter widen as complex numbers first.
    x, y = widen(p), widen(backend.cast(g, stored) if stored in COMPLEX else g)
    if "master" in slots:
        master = slots["master"]
        x = stages.heal(x, master, widen(backend.cast(master, stored)), xp)
    if "compensation" in slots:
        x = stages.compensate(x, widen(slots["compensation"]), xp)
    x, y = _staged("before", x, y, scalars, xp)
    return x, y, *(widen(layout.load(slots, name)) for name in layout.rule.slots)


def _totals(
    layout: Layout,
    backend: Backend,
    scalars: dict[str, Scalar],
    numbers: dict[str, Scalar],
    place: tuple[int, int | None],
    p: Array,
    g: Array,
    slots: Slots,
    shape: tuple[int, ...],
) -> list[Scalar]:
    """Give the totals of one array."""
    begun = _begun(layout, backend, scalars, p, g, slots)
    operands = layout.rule.turned(begun, scalars, backend.xp)
    values = layout.rule.quantities(operands, scalars, backend.xp)
    return totals(layout.rule, backend, values)


def _update(
    layout: Layout,
    backend: Backend,
    scalars: dict[str, Scalar],
    numbers: dict[str, Scalar],
    place: tuple[int, int | None],
    p: Array,
    g: Array,
    slots: Slots,
    shape: tuple[int, ...],
) -> tuple[Array, Slots]:
    """Update one array, or a stack of equal shapes: widen, go through stages and rule, narrow.

    The numbers are the scalars before they were rounded to the type of the arithmetic.
    """
    rule, xp, stored = layout.rule, backend.xp, backend.dtype(p)

    def widen(x: Array) -> Array:
        return _widened(backend, x, COMPUTE[stored])

    def narrow(x: Array, dtype: str) -> Array:
        return backend.array(backend.as_complex(x) if dtype in COMPLEX else backend.cast(x, dtype))

    begun = _begun(layout, backend, scalars, p, g, slots)
    x, *state = _carried_out(rule, backend, begun, scalars, numbers, p, shape)
    x, _ = _staged("after", x, begun[1], scalars, xp)
    x = x if layout.constraint is None else layout.constraint.applied(x, xp)
    # A slot that is the parameter or the gradient itself wants memory of its own.
    state = [backend.copy(s) if any(s is a for a in (*begun[:2], x)) else s for s in state]
    result = narrow(x, stored)
    new: Slots = {}
    for name, value in zip(rule.slots, state, strict=True):
        real = narrow(value, stored) if stored in COMPLEX else value
        new |= layout.save(slots, name, real, place[1], place[0])
    if "master" in slots:
        new["master"] = backend.array(x)
    if "compensation" in slots:
        new["compensation"] = narrow(stages.remainder(x, widen(result), xp), stored)
    if "average" in slots:
        average = stages.average(widen(slots["average"]), x, scalars["keep"], scalars["new"], xp)
        new["average"] = narrow(average, backend.dtype(slots["average"]))
    return result, new


def _carried_out(
    rule: Rule,
    backend: Backend,
    begun: Sequence[Array],
    scalars: dict[str, Scalar],
    numbers: dict[str, Scalar],
    p: Array,
    shape: tuple[int, ...],
) -> tuple[Array, ...]:
    """Give the new parameter and the new slots, with what the tensor has to measure before."""
    xp, compute = backend.xp, COMPUTE[backend.dtype(p)]
    x, y, *held = operands = rule.turned(begun, scalars, xp)

    def own(values: Sequence[Array]) -> dict[str, Scalar]:
        found = totals(rule, backend, values)
        size: Any = float(prod(x.shape))
        if not backend.compiles:
            made = ratio(rule, size, found, numbers, np)
            return {k: backend.scalar(float(v), compute, p) for k, v in made.items()}
        # TensorFlow mixes no types.
        size = xp.asarray(size, dtype=found[0].dtype)
        return {
            k: backend.scalar(v, compute, p)
            for k, v in ratio(rule, size, found, numbers, xp).items()
        }

    if rule.ratio is not None and not rule.masked:
        scalars = scalars | own(rule.quantities(operands, scalars, xp))
    new, *state = rule.stepped((x, y, *held), scalars, shape, xp)
    if rule.masked:
        boost = own([stages.agreement(x, new, y, xp)])["boost"]
        new = stages.caution(x, new, y, boost, xp)
    return new, *state


def _staged(phase: str, x: Array, y: Array, scalars: dict[str, Scalar], xp: Namespace) -> Any:
    """Take parameter and gradient through the stages of a phase that a step has."""
    values = {"p": x, "g": y}
    for stage in stages.applied(phase):
        assert stage.function is not None
        if all(name in scalars for name in stage.numbers):
            operands = (values[letter] for letter in stage.operands)
            named = (scalars[name] for name in stage.numbers)
            values[stage.operands[0]] = stage.function(*operands, *named, xp)
    return values["p"], values["g"]


def _widened(backend: Backend, x: Array, compute: str) -> Array:
    return backend.as_real(x) if backend.dtype(x) in COMPLEX else backend.cast(x, compute)
