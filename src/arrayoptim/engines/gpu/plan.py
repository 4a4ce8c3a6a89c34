"""The base of plans for parameters on GPUs: each device takes its part of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from ..._typing import Array
from ..steps import Computed
from ..totals import part
from .arrays import Library, library_of
from .place import Place

__all__ = ["DevicePlan"]

_Part = TypeVar("_Part", bound=Place)

Shared = list[tuple[_Part, list[Any]]]
"""The part of each device, with its gradients."""


class DevicePlan(Generic[_Part]):
    """Steps for one list of arrays on GPUs.

    Parameters
    ----------
    params : sequence of array
        The parameters.
    made : callable
        Makes the part of a device, given the library and the CUDA device index, and the indices of
        the parameters there.
    fault : callable
        Returns the error message for the parameter at an index, which is on no GPU.
    """

    def __init__(
        self,
        params: Sequence[Array],
        made: Callable[[tuple[Library, int], list[int]], _Part],
        fault: Callable[[int], str],
    ) -> None:
        self._count = len(params)
        devices: dict[tuple[Library, int], list[int]] = {}
        for k, p in enumerate(params):
            library = library_of(p)
            if library is None:
                raise TypeError(fault(k))
            devices.setdefault((library, library.number(p)), []).append(k)
        self._parts = [made(where, places) for where, places in devices.items()]
        self._checked: tuple[Any, Shared[_Part]] = None, []

    def fits(self, params: Sequence[Array]) -> bool:
        """Whether the plan is for these arrays at their present addresses.

        Parameters
        ----------
        params : sequence of array
            Parameters.

        Returns
        -------
        bool
            False if a parameter has another address, shape, dtype or memory order than when
            the plan was made: make another plan.
        """
        self._checked = None, []
        return len(params) == self._count and all(
            each.fits(self._of(each, params)) for each in self._parts
        )

    def quick(self, params: Sequence[Any], grads: Sequence[Any]) -> bool:
        """Whether all arrays of a step are as in the last one, types included.

        Parameters
        ----------
        params, grads : sequence of object
            Parameters and gradients, or any objects in their places. These gradients are not
            checked again in the next step.

        Returns
        -------
        bool
            False if one is not as in the last step; `fits` and `prepare` may still accept it.
        """
        self._checked = None, []
        if len(params) != self._count or len(grads) != self._count:
            return False
        shares = [(each, self._of(each, grads)) for each in self._parts]
        for each, mine in shares:
            if not each.quick(self._of(each, params), mine):
                return False
        self._checked = grads, shares
        return True

    def _of(self, each: _Part, arrays: Sequence[Any]) -> list[Any]:
        """Return one device's part of a list."""
        return list(arrays) if len(self._parts) == 1 else [arrays[k] for k in each.places]

    def _own(
        self, each: _Part, values: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return one device's part of the per-step scalars."""
        if len(self._parts) == 1:
            return values
        return {kind: part(row, each.places) for kind, row in values.items()}

    def prepare(
        self,
        grads: Sequence[Array | None],
        values: Mapping[str, Mapping[str, Any]],
        seed: int | None = None,
        computed: Computed | None = None,
    ) -> Callable[[], None]:
        """Prepare a step; all errors are raised here, before anything changes.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients, on the devices of their parameters; a parameter with gradient None
            is unchanged.
        values : mapping of str to mapping
            For each compute dtype, the per-step scalars by name: numbers, or 1-D arrays with one
            number per parameter. ``scale`` may be an `arrayoptim.gradients.Pending` of this plan.
        seed : int, optional
            The step's seed if slots are rounded stochastically.
        computed : Counting or Kept, optional
            Given if the per-step scalars are formulas that the device computes.

        Returns
        -------
        callable
            Launches the step, before any other method is called; after an interrupt, the rest of
            it.

        Raises
        ------
        TypeError, ValueError
            If a gradient does not match its parameter, or stochastic rounding is not possible.
        RuntimeError
            If the kernel cannot be compiled on this machine, or a CUDA graph is being captured.
        """
        runs = [
            each.prepare(mine, self._own(each, values), seed, computed)
            for each, mine in self._shared(grads)
        ]
        self._checked = None, []
        if len(runs) == 1:
            return runs[0]

        def sweep() -> None:
            for run in runs:
                run()

        return sweep

    def sums_of_squares(self, grads: Sequence[Array | None]) -> tuple[list[float], None]:
        """Return the sum of squares of each gradient, from one pass; syncs with the devices.

        Parameters
        ----------
        grads : sequence of array or None
            The gradients.

        Returns
        -------
        sums : list of float
            For each gradient what `arrayoptim.numerics.sums.sum_of_squares` returns; 0 for None.
        nonfinite : None
            None: the sums already show nonfinite gradients.
        """
        sums = np.zeros(self._count)
        for each, mine in self._shared(grads):
            sums[each.places] = each.sums(mine)
        return sums.tolist(), None

    def _shared(self, grads: Sequence[Array | None]) -> Shared[_Part]:
        """Return each device's part and gradients, after checking all of them."""
        checked, shares = self._checked
        if grads is checked:
            return shares
        if len(grads) != self._count:
            raise ValueError(f"found {len(grads)} gradients, wanted {self._count}")
        shares = [(each, self._of(each, grads)) for each in self._parts]
        for each, mine in shares:
            each.check(mine)
        return shares
