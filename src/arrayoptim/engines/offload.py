"""Offload: parameters on a GPU whose state lies in host memory, where the CPU engine steps them.

Parameters and gradients come to the host piece by piece, and the parameters go back, while the CPU
engine is at work on the piece between. The bits are those of the CPU engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._arrays import backend_of
from .._overlap import Stretches
from .._rule import Rule
from .._storage import EXPONENTS
from .._typing import Array
from . import cpu
from ._gpu_arrays import Library, dense, library_of
from ._measure import part
from ._offload_buckets import Shuttle

__all__ = ["Plan", "refusal"]


def refusal(rule: Rule, param: Array, slots: Mapping[str, Array]) -> str | None:
    """Say why a parameter on a GPU cannot have its state in host memory.

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
        The reason; None where there is none.
    """
    library = library_of(param)
    if library is None:
        return "it is on no GPU"
    reason = library.refusal(param)
    if reason is None and not dense(param.shape, library.strides(param)):
        reason = "its elements are not side by side"
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
    rows = zip(span.shape, span.strides, strict=True)
    return [step // span.itemsize for length, step in rows if length > 1]


class Plan:
    """Steps for parameters on GPUs whose slots lie in host memory.

    Parameters
    ----------
    rule : Rule
        The update rule.
    params : sequence of array
        Parameters that `refusal` accepts, no two of which share memory.
    slots : sequence of mapping of str to array
        The slots of each by name, see `arrayoptim.engines.cpu.Plan`. They are updated in place.
    paths : sequence of str
        What messages call the parameters.
    places : sequence of int
        Their places among all parameters of the optimizer, for rounding by chance.
    threads : int or None
        Number of threads of the CPU engine.
    occupied : Stretches
        The memory that the whole step writes, to which this plan adds its own.
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
        self._count = len(params)
        devices: dict[tuple[Library, int], list[int]] = {}
        for k, p in enumerate(params):
            library = library_of(p)
            if library is None:
                raise TypeError(f"parameter {paths[k]!r}: {refusal(rule, p, slots[k])}")
            devices.setdefault((library, library.number(p)), []).append(k)
        self._shuttles = [
            Shuttle(
                (rule, threads),
                where,
                mine,
                [params[k] for k in mine],
                [slots[k] for k in mine],
                ([paths[k] for k in mine], [places[k] for k in mine]),
                occupied,
            )
            for where, mine in devices.items()
        ]

    def fits(self, params: Sequence[Array]) -> bool:
        """Whether the plan is for these arrays, where they are now; see the CPU engine's."""
        return len(params) == self._count and all(
            shuttle.fits([params[k] for k in shuttle.places]) for shuttle in self._shuttles
        )

    def prepare(
        self,
        grads: Sequence[Array | None],
        values: Mapping[str, Mapping[str, Any]],
        seed: int | None = None,
    ) -> Callable[[], None]:
        """Make all ready for a step; what can fail, fails here; see the CPU engine's.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients, on the devices of their parameters.
        values : mapping of str to mapping
            The numbers of the step, by the type of the arithmetic.
        seed : int, optional
            Where slots are rounded by chance.

        Returns
        -------
        callable
            Carries out the step, and returns when the parameters are back.

        Raises
        ------
        TypeError, ValueError
            If a gradient does not fit its parameter.
        RuntimeError
            If the kernel cannot be compiled here.
        """
        runs = [
            shuttle.prepare(
                mine, {kind: part(row, shuttle.places) for kind, row in values.items()}, seed
            )
            for shuttle, mine in self._shared(grads)
        ]

        def sweep() -> None:
            for run in runs:
                run()

        return sweep

    def sums_of_squares(self, grads: Sequence[Array | None]) -> tuple[list[float], None]:
        """Read the gradients once, on their devices; see the GPU engine's."""
        sums = np.zeros(self._count)
        for shuttle, mine in self._shared(grads):
            sums[shuttle.places] = shuttle.sums(mine)
        return sums.tolist(), None

    def _shared(self, grads: Sequence[Array | None]) -> list[tuple[Shuttle, list[Array | None]]]:
        shares = [(each, [grads[k] for k in each.places]) for each in self._shuttles]
        for shuttle, share in shares:
            shuttle.check(share)
        return shares
