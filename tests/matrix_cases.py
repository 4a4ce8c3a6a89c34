"""Rules with totals along rows and columns, for tests of the fused engines."""

from __future__ import annotations

from typing import Any

import numpy as np

import arrayoptim as ao
from arrayoptim.numerics.slots import Layout
from engine_cases import draw

SHAPES = [(40, 41), (3, 5, 7), (0, 4), (150, 2100), (1, 1), (300, 270), (7, 0)]
"""A tensor of several tiles in each direction among smaller ones."""


def lines(rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    """Return a slot of each shape."""
    return {"row": (rows,), "column": (columns,), "both": (1,)}


@ao.rule(slots=("row", "column", "both", "full"), kind="matrix", shapes=lines)
def largest(p, g, r, c, b, f, lr, b1, xp):  # type: ignore[no-untyped-def]
    """Give every kind of total that is exact in any order, over three passes."""
    f = b1 * f + xp.abs(g)
    high = xp.max(f, axis=-1)
    r = b1 * r + high
    c = xp.maximum(b1 * c, xp.max(f * p, axis=-2))
    u = g / (r[..., :, None] + 2.0) - xp.copysign(xp.sqrt(f), p) * c[..., None, :]
    top = xp.max(u, axis=(-2, -1), keepdims=True)
    b = xp.maximum(b, xp.max(high, axis=-1, keepdims=True))
    return p - lr * u / (1.0 + top * top), r, c, b, xp.where(u > 0, f, -f)


@ao.rule(slots=("row", "column"), kind="matrix", shapes=lambda n, k: {"row": (n,), "column": (k,)})
def summed(p, g, r, c, lr, b1, xp):  # type: ignore[no-untyped-def]
    """Give sums and means along both axes, and of those."""
    r = b1 * r + xp.sum(g * g, axis=-1)
    c = b1 * c + xp.mean(g * g, axis=-2)
    size = xp.sum(r, axis=-1, keepdims=True) / xp.mean(c, axis=-1, keepdims=True)
    return (
        p - lr * g / (xp.sqrt(r)[..., :, None] + xp.sqrt(c)[..., None, :] + size[..., None, :]),
        r,
        c,
    )


RULES = {
    "largest": largest,
    "summed": summed,
    "sm3": ao.SM3().rule,
    "sm3-last": ao.SM3(outputs="last").rule,
    "adafactor": ao.Adafactor().rule,
    "adafactor-last": ao.Adafactor(outputs="last").rule,
    "adafactor-torch": ao.Adafactor(preset="torch").rule,
}


def state_of(rule: Any, shapes: list[Any], dtype: str, *more: str) -> list[dict[str, Any]]:
    """Return slots of their shapes that are not zero."""
    layout, slots = Layout(rule), []
    for place, shape in enumerate(shapes):
        own = layout.rule.slot_shapes(shape) | dict.fromkeys(more, shape)
        drawn = (
            draw(7 * place + k, [s], dtype, positive=True)[0] for k, s in enumerate(own.values())
        )
        slots.append(dict(zip(own, drawn, strict=True)))
    return slots


UNFIT: list[tuple[str, Any]] = [
    ("row_accumulator", np.zeros(2, np.float32)),
    ("column_accumulator", np.zeros(2)),
    ("column_accumulator", np.zeros(4, np.float32)[::2]),
    ("momentum", np.zeros((3, 2), np.uint8)),
]
"""Slots that do not fit a matrix of three rows and two columns."""


def slots_of_sm3() -> dict[str, Any]:
    """Return the slots of such a matrix for SM3."""
    return {
        "momentum": np.zeros((3, 2), np.float32),
        "row_accumulator": np.zeros(3, np.float32),
        "column_accumulator": np.zeros(2, np.float32),
    }
