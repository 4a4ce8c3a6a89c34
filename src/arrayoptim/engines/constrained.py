"""Constraints by norms, as a rule for matrices whose totals are the squares of the new parameter.

The norms go over the first axes of a parameter, or over its last ones: over the columns or the rows
of a matrix. So what steps matrices in passes steps constrained parameters too: the rule is computed
once for the totals and once more for what is stored.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import replace
from functools import cache
from math import prod
from typing import Any, NamedTuple

from .._typing import Array, Namespace
from ..arrays.libraries import Backend
from ..constraints import Constraint
from ..numerics.slots import Layout
from ..rules.rule import Rule, Shape
from ..rules.symbols import traced

__all__ = ["Side", "applied_by_sides", "constrained", "side_of", "stepped_rule"]


class Side(NamedTuple):
    """Along what the norms of a constraint go.

    Attributes
    ----------
    axis : {-1, -2}
        The axis of the matrix that the parameter becomes: its rows are sums over -1.
    lead : int
        How many axes of the parameter become the rows.
    """

    axis: int
    lead: int

    def matrix(self, shape: Shape) -> Shape:
        """Return the shape of that matrix."""
        return prod(shape[: self.lead]), prod(shape[self.lead :])


def side_of(constraint: Any, ndim: int) -> Side | None:
    """Return along what the norms of a constraint go, for parameters of that many axes.

    It is None where they go over axes in the middle, or where the constraint is no loop over
    elements, rows or columns.
    """
    axis = getattr(constraint, "axis", None)
    axes = (axis,) if isinstance(axis, int) else axis
    if not isinstance(axes, tuple) or not all(isinstance(k, int) for k in axes):
        return None
    places = sorted(k % ndim for k in axes) if ndim else []
    count = len(places)
    if places == list(range(ndim - count, ndim)):
        found = Side(-1, ndim - count)
    elif places == list(range(count)):
        found = Side(-2, count)
    else:
        return None
    with suppress(TypeError, ValueError):  # a class of somebody's own may take other axes only
        return found if traced(_made(_alone, constraint, found)) is not None else None
    return None


def constrained(layout: Layout, ndim: int) -> Rule | None:
    """Return the rule that includes a layout's constraint, for parameters of that many axes.

    It is None where there is no such rule: where the rule measures a tensor or takes matrices, or
    has decay after it.
    """
    if layout.rule.kind != "elementwise" or layout.spares:
        return None
    side = side_of(layout.constraint, ndim)
    if side is None:
        return None
    rule = _made(layout.rule, layout.constraint, side)
    return rule if traced(rule) is not None else None


def stepped_rule(layout: Layout, p: Array) -> Rule | None:
    """Return the rule by which a fused engine steps a parameter; None where none can."""
    return layout.rule if layout.constraint is None else constrained(layout, len(p.shape))


def applied_by_sides(
    constraint: Constraint, p: Array, side: Side, xp: Namespace, backend: Backend
) -> Array:
    """Return a parameter as a constraint wants it, with the norms of that matrix.

    Parameters
    ----------
    constraint : Constraint
        The constraint.
    p : array
        The parameter, in the compute dtype.
    side : Side
        From `side_of`.
    xp : namespace
        Array functions, with sums in the order that all engines keep.
    backend : Backend
        The library.
    """
    shape = tuple(p.shape)
    seen = backend.xp.reshape(p, side.matrix(shape))
    return backend.xp.reshape(_along(constraint, side.axis).applied(seen, xp), shape)


@cache
def _along(constraint: Constraint, axis: int) -> Constraint:
    """Return the constraint with norms over another axis."""
    return type(constraint)(**{**constraint._hyper, "axis": axis})


@cache
def _made(rule: Rule, constraint: Constraint, side: Side) -> Rule:
    along, lead = _along(constraint, side.axis), range(2 + len(rule.slots))

    def function(*values: Any) -> tuple[Any, ...]:
        new, *state = rule(*values)
        return along.applied(new, values[-1]), *state

    names = [*(f"x{k}" for k in lead), *rule.coefficients, "xp"]
    kind = inspect.Parameter.POSITIONAL_ONLY
    told: Any = function
    told.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    function.__name__ = f"{rule.name}_{type(constraint).__name__}"
    return replace(rule, function=function, direction=None, kind="matrix", outputs=side.matrix)


def _as_it_is(p: Array, g: Array, xp: Namespace) -> tuple[Array, ...]:
    return (p,)


_alone = Rule(_as_it_is, ())
