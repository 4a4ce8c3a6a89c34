"""Stacks of arrays with equal shapes, for one call of array functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from ..._typing import Array
from ...arrays.libraries import COMPUTE, backend_of
from ..host import gpu_library
from ..steps import Step

__all__ = ["alike", "joint", "stacks"]

LARGEST = 1 << 13
"""Maximum size in elements for which stacking saves more in calls than it costs in copies."""

LARGEST_ON_GPU, MOST_ON_GPU = 1 << 22, 1 << 24
"""The same on a GPU, which small arrays underuse and whose launches cost more than copies; and the
maximum elements of a stack there, as its copies take memory while the rule runs."""


def stacks(
    step: Step,
    params: Sequence[Array | None],
    grads: Sequence[Array | None],
    places: Sequence[int],
) -> list[list[int]]:
    """Split the parameters of a step into groups that are stepped as one stack.

    Parameters
    ----------
    step : Step
        Rule and coefficients.
    params, grads : sequence of array or None
        Parameters and gradients of the tree.
    places : sequence of int
        The indices to split, all with gradients.

    Returns
    -------
    list of list of int
        Indices of equal shape, dtype, device and coefficients; single ones if the rule is not for
        matrices, if matrices are large or constrained, and if slots are codes or rounded
        stochastically.
    """
    layout = step.layout
    alone = layout.storage == "int8" or step.seed is not None or layout.constraint is not None
    if layout.rule.kind != "matrix" or alone:
        return [[i] for i in places]
    numbers, varied = {}, {compute: step.varied(compute) for compute in step.values}
    for i in places:
        p = params[i]
        assert p is not None
        columns = varied[COMPUTE[backend_of(p).dtype(p)]]
        numbers[i] = tuple(column[i] for column in columns.values())
    return alike(params, grads, numbers)


def joint(
    step: Step, params: Sequence[Array | None], groups: Sequence[Sequence[int]]
) -> list[list[Sequence[int]]]:
    """Return which groups of `stacks` are stepped together.

    On a GPU, those of a rule with a joint, up to the maximum of elements; elsewhere each alone.
    """
    rule = step.layout.rule
    varied = (name for compute in step.values for name in step.varied(compute))
    if rule.joint is None or not set(rule.joint_names).isdisjoint(varied):
        return [[group] for group in groups]
    found: dict[Any, list[Sequence[int]]] = {}
    counts: dict[Any, int] = {}
    for group in groups:
        p, kind = params[group[0]], tuple[Any, ...](group[:1])
        assert p is not None
        if gpu_library(p) is not None:
            backend = backend_of(p)
            kind = backend, COMPUTE[backend.dtype(p)], backend.device(p)
            full = counts.get(kind, 0)
            counts[kind] = full + len(group) * prod(p.shape)
            kind = *kind, full // MOST_ON_GPU
        found.setdefault(kind, []).append(group)
    return list(found.values())


def alike(
    params: Sequence[Array | None], grads: Sequence[Array | None], numbers: Mapping[int, Any]
) -> list[list[int]]:
    """Split parameters into groups whose arrays are worth stacking.

    Parameters
    ----------
    params, grads : sequence of array or None
        Parameters and gradients of the tree.
    numbers : mapping of int to object
        The indices to split, all with gradients, with further values that are equal in a group.

    Returns
    -------
    list of list of int
        Indices of equal shape, dtype, device and numbers, in order; large arrays singly.
    """
    found: dict[Any, list[int]] = {}
    counts: dict[Any, int] = {}
    for i, own in numbers.items():
        p, g = params[i], grads[i]
        assert p is not None
        backend = backend_of(p)
        dtype, size, largest = backend.dtype(p), prod(p.shape), LARGEST
        kind: tuple[Any, ...] = (
            backend,
            dtype,
            backend.dtype(g),
            tuple(p.shape),
            backend.device(p),
            own,
        )
        if gpu_library(p) is not None:
            largest, full = LARGEST_ON_GPU, counts.get(kind, 0)
            counts[kind] = full + size
            kind = *kind, full // MOST_ON_GPU
        found.setdefault(kind if size <= largest else i, []).append(i)
    return list(found.values())
