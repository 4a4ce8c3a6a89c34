"""Rows of slots, as separate arrays."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from ..._typing import Array
from ...arrays.libraries import backend_of
from ...arrays.rows import Rows
from ...numerics.rounding import GROUP
from ...numerics.slots import EXPONENTS


def rows_of(g: Rows, slots: Mapping[str, Array]) -> dict[str, Array]:
    """Return the rows of slots that a sparse gradient has."""
    return {
        name: backend_of(x).xp.reshape(g.of(_by_row(g, x)), (-1,))
        if name.endswith(EXPONENTS)
        else g.of(x)
        for name, x in slots.items()
    }


def put_rows(g: Rows, slots: Mapping[str, Array], rows: Mapping[str, Array]) -> dict[str, Array]:
    """Write rows into slots, or into new ones if they are read-only."""
    new = dict(slots)
    for name, x in rows.items():
        if name.endswith(EXPONENTS):
            view = _by_row(g, slots[name])
            g.put(view, backend_of(x).xp.reshape(x, (-1, *view.shape[g.lead :])))
        else:
            new[name] = g.put(slots[name], x)
    return new


def _by_row(g: Rows, exponents: Array) -> Array:
    """Return the exponents as a view by rows; no block may span two rows."""
    lead = g.shape[: g.lead]
    groups = g.width // GROUP if prod(lead) else 0
    return backend_of(exponents).xp.reshape(exponents, (*lead, groups))
