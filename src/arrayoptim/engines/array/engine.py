"""The array engine: the rule as array expressions of whichever library the arrays are from.

It serves every backend and is the specification that the fused engines must agree with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from math import inf, prod
from typing import Any

import numpy as np

from ..._typing import Array, Namespace, Scalar
from ...arrays.libraries import COMPLEX, COMPUTE, Backend, backend_of
from ...arrays.rows import Rows
from ...numerics.slots import Layout
from ...rules import stages
from ...rules.rule import Rule
from ..steps import Step
from ..totals import ratio, totals
from .lines import functions
from .rows import put_rows, rows_of
from .stacks import stacks

Slots = dict[str, Array]
Result = tuple[Array, Slots]
Do = Callable[..., Any]
Trees = tuple[Any, Any, Any]
"""Parameters, gradients and slots, each to be had by the place of a parameter."""
Job = Callable[[], list[tuple[int, Any]]]
"""Makes something of each of some parameters, by their places; nothing is written."""


def sweep(
    step: Step,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    slots: Sequence[Slots],
) -> tuple[list[Array | None], list[Slots]]:
    """Return what a step makes of every parameter that has a gradient, and write nothing.

    Parameters
    ----------
    step : Step
        Rule, coefficients and places.
    params, grads : sequence of array or None
        Parameters and gradients of the tree, None where there is nothing to do.
    slots : sequence of dict
        The slots of each parameter, by name.

    Returns
    -------
    params : list
        New arrays; the others as they were given.
    slots : list of dict
        New slots.
    """
    new_params, new_slots = list(params), list(slots)
    for job in _jobs(step, params, grads, slots, _update):
        for i, (p, state) in job():
            backend, g = backend_of(params[i]), grads[i]
            with backend.guard(params[i]):
                if type(g) is Rows:
                    # What cannot be written comes back new anyway.
                    own = backend.copy if backend.writable(params[i]) else lambda x: x
                    new_params[i] = g.put(own(params[i]), p)
                    held = {k: own(x) for k, x in slots[i].items()}
                    new_slots[i] = put_rows(g, held, state)
                    continue
                new_params[i], new_slots[i] = p, _ordered(backend, state, slots[i])
    return new_params, new_slots


def _ordered(backend: Backend, new: Slots, old: Slots) -> Slots:
    """Return slots in the order of memory that fused engines go through them in."""
    return {name: backend.ordered(x, old[name]) for name, x in new.items()}


class InPlace:
    """A step that is written into the parameters that can be written.

    It is an act, see `arrayoptim.engines.steps`: what has been computed is kept until all of it has
    been written, and written once more where writing was interrupted.

    Parameters
    ----------
    steps : sequence of Step
        Rules, coefficients and places.
    params, grads, slots : sequence
        As for `sweep`.

    Attributes
    ----------
    params : list
        The parameters that were written, or new arrays.
    slots : list of dict
        New slots; those given keep their values.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        params: Sequence[Array | None],
        grads: Sequence[Array | None],
        slots: Sequence[Slots],
    ) -> None:
        self.params, self.slots = list(params), list(slots)
        self._targets, self._kept, self._grads = params, slots, grads
        self._jobs = [j for step in steps for j in _jobs(step, params, grads, slots, _update)]
        self._place = 0
        self._found: tuple[int, list[tuple[int, Result]]] | None = None

    def __call__(self) -> None:
        """Do what is left of it."""
        while self._place < len(self._jobs):
            if self._found is None or self._found[0] != self._place:
                # Not both at a time: they may be large.
                self._found = None
                self._found = self._place, self._jobs[self._place]()
            for i, (p, state) in self._found[1]:
                target, g = self._targets[i], self._grads[i]
                backend = backend_of(target)
                with backend.guard(target):
                    if type(g) is Rows:
                        self.params[i] = g.put(target, p)
                        self.slots[i] = put_rows(g, self._kept[i], state)
                        continue
                    if backend.writable(target):
                        backend.store(target, p)
                    else:
                        self.params[i] = p
                    self.slots[i] = _ordered(backend, state, self._kept[i])
            self._place += 1
        self._found = None


def measure(
    step: Step,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    slots: Sequence[Slots],
) -> dict[int, list[Scalar]]:
    """Return what a step has to know of every parameter that has a gradient, by its place.

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
    return dict(row for job in _jobs(step, params, grads, slots, _totals) for row in job())


def _jobs(
    step: Step,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    slots: Sequence[Slots],
    do: Do,
) -> Iterator[Job]:
    """Return what makes something of the parameters that have gradients, some at a time."""
    compiled: dict[Any, list[int]] = {}
    eager: list[int] = []
    tree = params, grads, slots
    matrices = step.layout.rule.kind == "matrix"
    for i in step.places:
        p = params[i]
        if p is None or grads[i] is None or (matrices and 0 in p.shape):
            continue
        backend = backend_of(p)
        if type(grads[i]) is Rows:
            yield partial(_by_rows, step, tree, i, do)
        elif backend.compiles:
            compiled.setdefault((backend, backend.device(p)), []).append(i)
        else:
            eager.append(i)
    operands: dict[Any, dict[str, Scalar]] = {}
    for alike in stacks(step, params, grads, eager):
        yield partial(_eager, step, tree, alike, operands, do)
    for (backend, _), places in compiled.items():
        if step.seed is not None:
            raise ValueError(f"stochastic rounding does not serve {backend.name} arrays")
        yield partial(_together, step, tree, places, backend, do)


def _by_rows(
    step: Step,
    tree: Trees,
    i: int,
    do: Do,
) -> list[tuple[int, Any]]:
    """Do it for the rows of one array that a sparse gradient has, as an array of their own."""
    params, grads, slots = tree
    p, g = params[i], grads[i]
    assert p is not None
    backend = backend_of(p)
    with backend.guard(p):
        rows = {i: g.of(p)}, {i: g.rows}, {i: rows_of(g, slots[i])}
    if backend.compiles:
        return _together(step, rows, (i,), backend, do)
    return _eager(step, rows, (i,), {}, do)


def _together(
    step: Step,
    tree: Trees,
    places: Sequence[int],
    backend: Backend,
    do: Do,
) -> list[tuple[int, Any]]:
    """Do it for all arrays of a library that compiles in one compiled call."""
    params, *_ = given = [[sequence[i] for i in places] for sequence in tree]
    shared = {compute: step.shared(compute) for compute in step.values}
    pairs = zip(places, params, strict=True)
    each = [step.own(COMPUTE[backend.dtype(p)], i) for i, p in pairs]
    done = _compiled(step.layout, backend, do)(shared, each, *given)
    return list(zip(places, done, strict=True))


def _eager(
    step: Step,
    tree: Trees,
    alike: Sequence[int],
    operands: dict[Any, dict[str, Scalar]],
    do: Do,
) -> list[tuple[int, Any]]:
    """Do it for one array, or for a stack of equal ones."""
    params, grads, slots = tree
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
        result = do(step.layout, backend, scalars, numbers, place, p, g, held, shape)
        if len(alike) == 1:
            return [(i, result)]
        new, state = result
        # Not views: what is saved or handed on would hold on to the whole stack.
        return [
            (one, (new[k, ...], {n: backend.copy(x[k, ...]) for n, x in state.items()}))
            for k, one in enumerate(alike)
        ]


@cache
def _compiled(layout: Layout, backend: Backend, do: Do) -> Callable[..., list[Any]]:
    """Return what is made of many arrays as one compiled function."""

    def all_of(
        shared: dict[str, dict[str, Scalar]],
        each: list[dict[str, Scalar]],
        params: list[Array],
        grads: list[Array],
        slots: list[Slots],
    ) -> list[Any]:
        def done(numbers: dict[str, Scalar], p: Array, g: Array, held: Slots) -> Any:
            g, numbers = _clipped_wide(backend, p, g, numbers)
            scalars = _operands(numbers, backend, p)
            shape = tuple(p.shape)
            return do(layout, backend, scalars, numbers, (0, None), p, g, held, shape)

        def spread(own: dict[str, Scalar], p: Array, g: Array, held: Slots) -> Any:
            numbers = shared[COMPUTE[backend.dtype(p)]] | own
            function = backend.spread(done, (p, held)) if do is _update else done
            return function(numbers, p, g, held)

        return list(map(spread, each, params, grads, slots))

    return backend.compile(all_of)


def _clipped_wide(
    backend: Backend, p: Array, g: Array, numbers: dict[str, Scalar]
) -> tuple[Array, dict[str, Scalar]]:
    """Clip a gradient of more bits than the arithmetic before it is rounded, which may overflow."""
    kind, compute = backend.dtype(g), COMPUTE[backend.dtype(p)]
    if "scale" not in numbers or COMPUTE[kind] == compute or compute == "float64":
        return g, numbers
    parts = backend.as_real(g) if kind in COMPLEX else g
    scale, bound = (backend.scalar(numbers[k], COMPUTE[kind], g) for k in ("scale", "bound"))
    y = backend.cast(stages.clip(parts, scale, bound, backend.xp), compute)
    return backend.as_complex(y) if kind in COMPLEX else y, numbers | {"scale": 1.0, "bound": inf}


def _operands(values: dict[str, Scalar], backend: Backend, p: Array) -> dict[str, Scalar]:
    """Return the numbers of a step as operands of the type in which a parameter is computed."""
    compute = COMPUTE[backend.dtype(p)]
    return {name: backend.scalar(value, compute, p) for name, value in values.items()}


def _begun(
    layout: Layout, backend: Backend, scalars: dict[str, Scalar], p: Array, g: Array, slots: Slots
) -> tuple[Array, ...]:
    """Return parameter, gradient and the rule's slots, widened and through the stages before it."""
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
    """Return the totals of one array."""
    begun, rule, xp = _begun(layout, backend, scalars, p, g, slots), layout.rule, backend.xp
    operands = rule.turned(begun, scalars, xp)
    if rule.masked:
        x, y, *_ = operands
        new, *_ = rule.stepped(operands, scalars, shape, xp)
        return totals(rule, backend, [stages.agreement(x, new, y, xp)])
    return totals(rule, backend, rule.quantities(operands, scalars, xp))


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
    """Return the new parameter and the new slots, with what the tensor has to measure before.

    Nothing is measured where the scalars hold what comes of it, as for a part of a tensor.
    """
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

    known = not rule.measured or rule.measured[0] in scalars
    if not known and not rule.masked:
        scalars = scalars | own(rule.quantities(operands, scalars, xp))
    new, *state = rule.stepped((x, y, *held), scalars, shape, functions(rule, backend, x))
    if rule.masked:
        made = scalars if known else own([stages.agreement(x, new, y, xp)])
        new = stages.caution(x, new, y, made["boost"], xp)
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
