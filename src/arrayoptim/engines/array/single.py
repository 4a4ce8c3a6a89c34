"""A step of one array, or of a stack: stages and rule as array expressions."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any

import numpy as np

from ..._typing import Array, Namespace, Scalar
from ...arrays.libraries import COMPLEX, COMPUTE, Backend
from ...numerics.slots import Layout
from ...rules import stages
from ...rules.rule import Rule
from ..constrained import applied_by_sides, side_of
from ..totals import ratio, totals
from .sums_along import functions, in_order, with_sums

Slots = dict[str, Array]


@dataclass(slots=True)
class Operands:
    """One array of a step, or a stack of arrays with equal shape.

    Attributes
    ----------
    layout : Layout
        The rule and the slots.
    backend : Backend
        The library.
    scalars : dict of str to scalar
        The per-step scalars in the compute dtype.
    numbers : dict of str to scalar
        The same before rounding, where a rule has ratios.
    place : tuple
        The index of the parameter, and the seed of the step or None.
    p, g : array
        Parameter and gradient.
    slots : dict of str to array
        The slots.
    shape : tuple of int
        The shape of a single parameter.
    """

    layout: Layout
    backend: Backend
    scalars: dict[str, Scalar]
    numbers: dict[str, Scalar]
    place: tuple[int, int | None]
    p: Array
    g: Array
    slots: Slots
    shape: tuple[int, ...]


def clipped_wide(
    backend: Backend, p: Array, g: Array, numbers: dict[str, Scalar]
) -> tuple[Array, dict[str, Scalar]]:
    """Clip a gradient wider than the compute dtype before the cast, which might overflow."""
    kind, compute = backend.dtype(g), COMPUTE[backend.dtype(p)]
    if "scale" not in numbers or COMPUTE[kind] == compute or compute == "float64":
        return g, numbers
    parts = backend.as_real(g) if kind in COMPLEX else g
    scale, bound = (backend.scalar(numbers[k], COMPUTE[kind], g) for k in ("scale", "bound"))
    y = backend.cast(stages.clip(parts, scale, bound, backend.xp), compute)
    return backend.as_complex(y) if kind in COMPLEX else y, numbers | {"scale": 1.0, "bound": inf}


def as_operands(values: dict[str, Scalar], backend: Backend, p: Array) -> dict[str, Scalar]:
    """Return the per-step scalars as operands of a parameter's compute dtype."""
    compute = COMPUTE[backend.dtype(p)]
    return {name: backend.scalar(value, compute, p) for name, value in values.items()}


def _begun(
    layout: Layout, backend: Backend, scalars: dict[str, Scalar], p: Array, g: Array, slots: Slots
) -> tuple[Array, ...]:
    """Return parameter, gradient and the rule's slots, widened and after the stages before it."""
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
    x, y = _staged("before", {"p": x, "g": y}, scalars, xp)
    return x, y, *(widen(layout.load(slots, name)) for name in layout.rule.slots)


def totals_of(given: Sequence[Operands]) -> list[list[Scalar]]:
    """Return the totals of each array."""
    return [_totals_of(each) for each in given]


def _totals_of(given: Operands) -> list[Scalar]:
    layout, backend, scalars = given.layout, given.backend, given.scalars
    begun = _begun(layout, backend, scalars, given.p, given.g, given.slots)
    rule, xp = layout.rule, backend.xp
    operands = rule.turned(begun, scalars, xp)
    if rule.masked:
        x, y, *_ = operands
        new, *_ = rule.stepped(operands, scalars, given.shape, xp)
        return totals(rule, backend, [stages.agreement(x, new, y, xp)])
    return totals(rule, backend, rule.quantities(operands, scalars, xp))


def updated(given: Sequence[Operands]) -> list[tuple[Array, Slots]]:
    """Update arrays or stacks that have the same scalars of the rule's joint, if it has one."""
    running = [_updating(each) for each in given]
    first, directions = given[0], [next(each) for each in running]
    shapes, rule = [each.shape for each in given], first.layout.rule
    joined = rule.joined(directions, shapes, first.scalars, first.backend.xp)
    return [each.send(y) for each, y in zip(running, joined, strict=True)]


def _updating(given: Operands) -> Generator[Any, Array, None]:
    """Widen, apply stages and rule, narrow.

    Yields the direction, for which it is sent what replaces it; then parameter and slots.
    """
    layout, backend, scalars, numbers = given.layout, given.backend, given.scalars, given.numbers
    p, g, slots, shape, place = given.p, given.g, given.slots, given.shape, given.place
    rule, xp, stored = layout.rule, backend.xp, backend.dtype(p)

    def widen(x: Array) -> Array:
        return _widened(backend, x, COMPUTE[stored])

    def narrow(x: Array, dtype: str) -> Array:
        return backend.array(backend.as_complex(x) if dtype in COMPLEX else backend.cast(x, dtype))

    begun = _begun(layout, backend, scalars, p, g, slots)
    x, *held = rule.turned(begun, scalars, xp)
    held[0] = yield held[0]
    x, *state = _carried_out(rule, backend, [x, *held], scalars, numbers, p, shape)
    x, _ = _staged("after", {"p": x, "g": begun[1], "q": begun[0]}, scalars, xp)
    x = x if layout.constraint is None else _constrained(layout.constraint, backend, x)
    # A slot must not alias the parameter or the gradient.
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
    yield result, new


def _constrained(constraint: Any, backend: Backend, x: Array) -> Array:
    """Return a parameter as a constraint wants it, with norms as fused engines take them."""
    side = side_of(constraint, len(x.shape))
    if side is None or not in_order(backend, x):
        return constraint.applied(x, backend.xp)
    return applied_by_sides(constraint, x, side, with_sums(backend), backend)


def _carried_out(
    rule: Rule,
    backend: Backend,
    operands: Sequence[Array],
    scalars: dict[str, Scalar],
    numbers: dict[str, Scalar],
    p: Array,
    shape: tuple[int, ...],
) -> tuple[Array, ...]:
    """Return the new parameter and slots from what `Rule.turned` gives, after its totals.

    Totals are skipped if the scalars contain their result, as for a part of a tensor.
    """
    xp, compute = backend.xp, COMPUTE[backend.dtype(p)]
    x, y, *held = operands

    def own(values: Sequence[Array]) -> dict[str, Scalar]:
        found = totals(rule, backend, values)
        size: Any = float(prod(x.shape))
        if not backend.compiles:
            made = ratio(rule, size, found, numbers, np)
            return {k: backend.scalar(float(v), compute, p) for k, v in made.items()}
        # TensorFlow does not promote types.
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


def _staged(
    phase: str, values: dict[str, Array], scalars: dict[str, Scalar], xp: Namespace
) -> tuple[Array, Array]:
    """Apply the stages of a phase that a step has to parameter and gradient."""
    for stage in stages.applied(phase):
        assert stage.function is not None
        if all(name in scalars for name in stage.numbers):
            operands = (values[letter] for letter in stage.operands)
            named = (scalars[name] for name in stage.numbers)
            values[stage.operands[0]] = stage.function(*operands, *named, xp)
    return values["p"], values["g"]


def _widened(backend: Backend, x: Array, compute: str) -> Array:
    return backend.as_real(x) if backend.dtype(x) in COMPLEX else backend.cast(x, compute)
