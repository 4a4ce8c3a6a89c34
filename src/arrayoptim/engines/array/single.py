"""A step of one array, or of a stack: stages and rule as array expressions."""

from __future__ import annotations

from collections.abc import Sequence
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


def totals_of(
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


def updated(
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
    """Update one array, or a stack: widen, apply stages and rule, narrow.

    `numbers` are the scalars before rounding to the compute dtype.
    """
    rule, xp, stored = layout.rule, backend.xp, backend.dtype(p)

    def widen(x: Array) -> Array:
        return _widened(backend, x, COMPUTE[stored])

    def narrow(x: Array, dtype: str) -> Array:
        return backend.array(backend.as_complex(x) if dtype in COMPLEX else backend.cast(x, dtype))

    begun = _begun(layout, backend, scalars, p, g, slots)
    x, *state = _carried_out(rule, backend, begun, scalars, numbers, p, shape)
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
    return result, new


def _constrained(constraint: Any, backend: Backend, x: Array) -> Array:
    """Return a parameter as a constraint wants it, with norms as fused engines take them."""
    side = side_of(constraint, len(x.shape))
    if side is None or not in_order(backend, x):
        return constraint.applied(x, backend.xp)
    return applied_by_sides(constraint, x, side, with_sums(backend), backend)


def _carried_out(
    rule: Rule,
    backend: Backend,
    begun: Sequence[Array],
    scalars: dict[str, Scalar],
    numbers: dict[str, Scalar],
    p: Array,
    shape: tuple[int, ...],
) -> tuple[Array, ...]:
    """Return the new parameter and slots, after computing the totals of the tensor.

    Totals are skipped if the scalars contain their result, as for a part of a tensor.
    """
    xp, compute = backend.xp, COMPUTE[backend.dtype(p)]
    x, y, *held = operands = rule.turned(begun, scalars, xp)

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
