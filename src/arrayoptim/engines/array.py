"""The array engine: the rule as array expressions of whichever library the arrays are from.

It serves every backend and is the specification that the fused engines must agree with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from .. import _stages as stages
from .._arrays import COMPLEX, COMPUTE, Backend, backend_of
from .._storage import Layout
from .._typing import Array, Namespace, Scalar
from ._measure import measured
from ._stacks import stacks

Slots = dict[str, Array]


@dataclass(frozen=True)
class Step:
    """One step of the parameters that have the same rule and slots.

    Attributes
    ----------
    layout : Layout
        The update rule, and the slots of the parameters.
    values : dict of str to dict
        For each type of arithmetic the rule's coefficients by name, and those of the stages that
        the step has: ``scale`` and ``bound``, ``l2``, ``amount`` of decay, ``keep`` and ``new`` of
        the average. A list holds one number for each parameter of the tree.
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
    for i, (p, state) in _results(step, params, grads, slots):
        backend = backend_of(params[i])
        if in_place and backend.writable(params[i]):
            with backend.guard():
                backend.store(params[i], p)
        else:
            new_params[i] = p
        new_slots[i] = state
    return new_params, new_slots


def _results(
    step: Step,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    slots: Sequence[Slots],
) -> Iterator[tuple[int, tuple[Array, Slots]]]:
    """Give one after another the place of a parameter, its new value and its new slots."""
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
    yield from _eager(step, params, grads, slots, eager)
    for (backend, _), places in compiled.items():
        if step.seed is not None:
            raise ValueError(f"stochastic rounding does not serve {backend.name} arrays")
        given = [[sequence[i] for i in places] for sequence in (params, grads, slots)]
        shared = {compute: step.shared(compute) for compute in step.values}
        each = [step.own(COMPUTE[backend.dtype(params[i])], i) for i in places]
        yield from zip(places, _compiled(step.layout, backend)(shared, each, *given), strict=True)


def _eager(
    step: Step,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    slots: Sequence[Slots],
    places: Sequence[int],
) -> Iterator[tuple[int, tuple[Array, Slots]]]:
    operands: dict[Any, dict[str, Scalar]] = {}
    for alike in stacks(step, params, grads, places):
        i = alike[0]
        p, g, held = params[i], grads[i], slots[i]
        assert p is not None
        shape, backend = tuple(p.shape), backend_of(p)
        with backend.guard():
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
            result = _update(step.layout, backend, scalars, numbers, place, p, g, held, shape)
            if len(alike) > 1:
                new, state = result
                for k, one in enumerate(alike):
                    # Not views: what is saved or handed on would hold on to the whole stack.
                    yield one, (new[k], {n: backend.copy(x[k, ...]) for n, x in state.items()})
                continue
        yield i, result


@cache
def _compiled(layout: Layout, backend: Backend) -> Callable[..., list[tuple[Array, Slots]]]:
    """Give the update of many arrays as one compiled function."""

    def updates(
        shared: dict[str, dict[str, Scalar]],
        each: list[dict[str, Scalar]],
        params: list[Array],
        grads: list[Array],
        slots: list[Slots],
    ) -> list[tuple[Array, Slots]]:
        def updated(own: dict[str, Scalar], p: Array, g: Array, held: Slots) -> Any:
            numbers = shared[COMPUTE[backend.dtype(p)]] | own
            scalars = _operands(numbers, backend, p)
            shape = tuple(p.shape)
            return _update(layout, backend, scalars, numbers, (0, None), p, g, held, shape)

        return list(map(updated, each, params, grads, slots))

    return backend.compile(updates)


def _operands(values: dict[str, Scalar], backend: Backend, p: Array) -> dict[str, Scalar]:
    """Give the numbers of a step as operands of the type in which a parameter is computed."""
    compute = COMPUTE[backend.dtype(p)]
    return {name: backend.scalar(value, compute, p) for name, value in values.items()}


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
    compute = COMPUTE[stored]

    def widen(x: Array) -> Array:
        return backend.as_real(x) if backend.dtype(x) in COMPLEX else backend.cast(x, compute)

    def narrow(x: Array, dtype: str) -> Array:
        return backend.array(backend.as_complex(x) if dtype in COMPLEX else backend.cast(x, dtype))

    x, y = widen(p), _widened_gradient(backend, g, stored, widen)
    if "master" in slots:
        master = slots["master"]
        x = stages.heal(x, master, widen(backend.cast(master, stored)), xp)
    if "compensation" in slots:
        x = stages.compensate(x, widen(slots["compensation"]), xp)
    x, y = _before(x, y, scalars, xp)
    held = [widen(layout.load(slots, name)) for name in rule.slots]
    given = x, y
    x, y, *held = rule.turned((x, y, *held), scalars, xp)
    if rule.ratio is not None:
        own = measured(rule, backend, x, y, numbers)
        scalars = scalars | {k: backend.scalar(v, compute, p) for k, v in own.items()}
    x, *state = rule.stepped((x, y, *held), scalars, shape, xp)
    # A slot that is the parameter or the gradient itself wants memory of its own.
    state = [backend.copy(s) if any(s is a for a in (*given, x)) else s for s in state]
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


def _before(x: Array, y: Array, scalars: dict[str, Scalar], xp: Namespace) -> tuple[Array, Array]:
    """Take parameter and gradient through the stages before the rule."""
    if "scale" in scalars:
        y = stages.clip(y, scalars["scale"], scalars["bound"], xp)
    if "l2" in scalars:
        y = stages.couple(y, x, scalars["l2"], xp)
    if "amount" in scalars:
        x = stages.decay(x, scalars["amount"], xp)
    return x, y


def _widened_gradient(
    backend: Backend, g: Array, stored: str, widen: Callable[[Array], Array]
) -> Array:
    # complex64 gradients of a complex128 parameter widen as complex numbers first.
    return widen(backend.cast(g, stored) if stored in COMPLEX else g)
