"""Offload: GPU parameters with state in host memory, stepped by the CPU engine.

Parameters and gradients are copied to the host piece by piece, and parameters copied back, while
the CPU engine steps the piece between. The results are bit-identical to those of the CPU engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..._typing import Array
from ...arrays.libraries import backend_of
from ...arrays.memory import Stretches
from ...arrays.trees import named
from ...numerics.slots import EXPONENTS
from ...rules.rule import Rule
from ..cpu import engine as cpu
from ..gpu.arrays import Library, dense, library_of
from ..gpu.plan import DevicePlan
from .buckets import Shuttle

__all__ = ["Plan", "refusal"]


def refusal(rule: Rule, param: Array, slots: Mapping[str, Array]) -> str | None:
    """Return why a GPU parameter cannot have its state in host memory.

    Parameters
    ----------
    rule : Rule
        The update rule.
    param : array
        The parameter.
    slots : mapping of str to array
        Its slots.

    Returns
    -------
    str or None
        The reason; None if it can.
    """
    library = library_of(param)
    if library is None:
        return "it is on no GPU"
    reason = library.refusal(param)
    if reason is None and not dense(param.shape, library.strides(param)):
        reason = "its elements are not contiguous"
    if reason is None and rule.totals:
        reason = f"the rule {rule.name} measures all tensors together"
    one = library.on_host(np.zeros(16, np.uint8), backend_of(param).dtype(param), 1)
    reason = reason or cpu.refusal(rule, one, {})
    for name, array in slots.items():
        if library_of(array) is not None:
            reason = reason or f"slot {name!r} is on a GPU"
        elif not name.endswith(EXPONENTS) and _steps(array) != _steps(param):
            reason = reason or f"slot {name!r}: its elements are not in the parameter's order"
    return reason


def _steps(array: Array) -> list[int]:
    span = backend_of(array).span(array)
    assert span is not None
    if not span.size:
        return []
    rows = zip(span.shape, span.strides, strict=True)
    return [step // span.itemsize for length, step in rows if length > 1]


class Plan(DevicePlan[Shuttle]):
    """Steps for GPU parameters with slots in host memory.

    Parameters
    ----------
    rule : Rule
        The update rule.
    params : sequence of array
        Parameters accepted by `refusal`, no two of which share memory.
    slots : sequence of mapping of str to array
        The slots of each by name, see `arrayoptim.engines.cpu.engine.Plan`; updated in place.
    paths : sequence of str
        The parameters' names in messages.
    places : sequence of int
        Their indices among all parameters of the optimizer, for stochastic rounding.
    threads : int or None
        Number of threads of the CPU engine.
    occupied : Stretches
        The memory written by the whole step, to which this plan adds its own.
    """

    def __init__(
        self,
        rule: Rule,
        params: Sequence[Array],
        slots: Sequence[Mapping[str, Array]],
        *,
        paths: Sequence[str],
        places: Sequence[int],
        threads: int | None,
        occupied: Stretches,
    ) -> None:
        def made(where: tuple[Library, int], mine: list[int]) -> Shuttle:
            arrays, held = [params[k] for k in mine], [slots[k] for k in mine]
            known = [paths[k] for k in mine], [places[k] for k in mine]
            return Shuttle((rule, threads), where, mine, arrays, held, known, occupied)

        def fault(k: int) -> str:
            return f"{named(paths[k])}: {refusal(rule, params[k], slots[k])}"

        super().__init__(params, made, fault)
