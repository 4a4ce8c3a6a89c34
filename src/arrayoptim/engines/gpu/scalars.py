"""A batch's per-step scalars, sorted by where each is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...gradients import Pending
from ...numerics.formulas import Number, symbolic
from .program import SEED

__all__ = ["Scalars", "seeded", "sort"]

_HOST = frozenset({float, int})


class Scalars(NamedTuple):
    """The per-step scalars of some tensors.

    Attributes
    ----------
    columns : dict of str to float or array
        Numbers by name, those that differ between tensors as an array with one for each; in place
        of a clip factor that waits for a norm its bound, 0 for none.
    pending : Pending or None
        The norm that clip factors wait for.
    unknown : dict of str to object
        The columns with symbols, which are 0 in `columns`: the device computes them.
    each : bool
        Whether some differ between tensors.
    """

    columns: dict[str, Any]
    pending: Pending | None
    unknown: dict[str, Any]
    each: bool


def sort(
    values: Mapping[str, Any], names: Sequence[str], places: Sequence[int], counted: bool = False
) -> Scalars:
    """Sort the per-step scalars of the tensors at some places.

    Parameters
    ----------
    values : mapping of str to object
        The per-step scalars by name: one, or an array with one for each parameter of the device.
    names : sequence of str
        The scalars that a kernel takes, in its order.
    places : sequence of int
        Indices of the tensors among the parameters.
    counted : bool
        Whether all scalars may be formulas, which a `Counter` computes: none is unknown.
    """
    row = [values[name] for name in names]
    if _HOST.issuperset(map(type, row)):
        return Scalars(dict(zip(names, row, strict=True)), None, {}, False)
    columns: dict[str, Any] = {}
    pending: Pending | None = None
    unknown: dict[str, Any] = {}
    each = False
    for name, value in zip(names, row, strict=True):
        if isinstance(value, np.ndarray) and value.ndim:
            each, value = True, value[places]
            if value.dtype == object:
                waits = next((x for x in value if isinstance(x, Pending)), None)
                if waits is not None:
                    pending = waits
                    value = np.array([x.bound if isinstance(x, Pending) else 0.0 for x in value])
                elif not counted and symbolic(value):
                    unknown[name] = value
                    value = np.array([0.0 if type(x) is Number else float(x) for x in value])
        elif isinstance(value, Pending):
            pending, value = value, value.bound
        elif type(value) is Number and not counted:
            unknown[name], value = value, 0.0
        columns[name] = value
    return Scalars(columns, pending, unknown, each)


def seeded(values: Mapping[str, Any], seed: int | None) -> Mapping[str, Any]:
    """Return per-step scalars with the halves of the seed, which float64 represents exactly.

    Where clip factors wait for the norms of tensors, the bounds on those are a further column.
    """
    if "scale" in values:
        values = _bounded(values)
    if seed is None:
        return values
    return {**values, SEED[0]: float(seed >> 32 & 0xFFFFFFFF), SEED[1]: float(seed & 0xFFFFFFFF)}


def _bounded(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return per-step scalars with the bounds on each tensor's norm, if clip factors have any."""
    scale: Any = values.get("scale")
    own = isinstance(scale, np.ndarray)
    if not (isinstance(scale, Pending) or (own and scale.dtype == object)):
        return values
    bounds = [getattr(x, "tensor_bound", None) for x in (scale if own else [scale])]
    if all(bound is None for bound in bounds):
        return values
    column = [0.0 if bound is None else bound for bound in bounds]
    return {**values, "tensor_bound": np.array(column) if own else column[0]}
