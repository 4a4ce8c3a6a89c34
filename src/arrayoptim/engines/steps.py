"""A step as passed to engines, and the completion of its parts after exceptions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .._typing import Array, Scalar
from ..numerics.formulas import Cell, Number
from ..numerics.slots import Layout
from .resident import Kept

__all__ = ["Act", "Column", "Computed", "Counting", "HalfwayError", "Once", "Step", "carry_out"]

Act = Callable[[], object]
"""A part of a step. Called again after an exception it does the rest; after that, nothing."""

_TRIES = 100


@dataclass(eq=False)
class Counting:
    """State on a device, from which per-step scalars are computed there.

    Attributes
    ----------
    held : sequence of sequence of array
        The state of each parameter of the tree, as 0-d float64 arrays on its device.
    names : tuple of str
        The names of these arrays, the step count first.
    after : dict of str to Number
        The formulas of their values after a step.
    cells : list of Cell
        Further inputs of the formulas.
    """

    held: Sequence[Sequence[Array]]
    names: tuple[str, ...]
    after: dict[str, Number]
    cells: list[Cell]


Computed = Counting | Kept


@dataclass(slots=True)
class Step:
    """One step of the parameters that have the same rule and slots.

    Attributes
    ----------
    layout : Layout
        The update rule, and the slots of the parameters.
    values : dict of str to dict
        For each compute dtype, the per-step scalars by name: the rule's coefficients, and those of
        the step's stages, see `arrayoptim.rules.stages.STAGES`. A list or a `Column` has one per
        parameter of the tree.
    seed : int or None
        The seed of the step if slots are rounded stochastically.
    places : sequence of int
        Indices of the parameters in the tree.
    computed : Counting or Kept, optional
        If the scalars are formulas: the state that the device computes them from.
    """

    layout: Layout
    values: dict[str, dict[str, Scalar | Sequence[Scalar]]]
    seed: int | None
    places: Sequence[int]
    computed: Computed | None = None

    def shared(self, compute: str) -> dict[str, Scalar]:
        """Return the scalars that all arrays with one compute dtype share."""
        return {k: v for k, v in self.values[compute].items() if not isinstance(v, OWN)}

    def varied(self, compute: str) -> dict[str, Sequence[Scalar]]:
        """Return the scalars with one value per parameter."""
        return {k: v for k, v in self.values[compute].items() if isinstance(v, OWN)}

    def own(self, compute: str, i: int) -> dict[str, Scalar]:
        """Return the scalars that belong to a single array."""
        return {k: v[i] for k, v in self.varied(compute).items()}

    def numbers(self, compute: str, i: int) -> dict[str, Scalar]:
        """Return all scalars of a single array."""
        return self.shared(compute) | self.own(compute, i)


class Column(Sequence[Scalar]):
    """Numbers, one for each parameter of the tree, stored as an array.

    Parameters
    ----------
    array : numpy.ndarray
        The numbers.
    """

    def __init__(self, array: Any) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, place: Any) -> Any:
        return self.array.item(place)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """Return the array."""
        return self.array


OWN = (list, Column)
"""Types of values with one number per parameter."""


class HalfwayError(RuntimeError):
    """An act stopped where it can neither continue nor start over."""


class Once:
    """An act made from a function that cannot be resumed after an interrupt.

    Parameters
    ----------
    function : callable
        Does all the work.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self._function, self._begun, self._done = function, False, False

    def __call__(self) -> None:
        """Call the function, unless it has been called."""
        if self._done:
            return
        if self._begun:
            raise HalfwayError("what was interrupted cannot go on")
        self._begun = True
        self._function()
        self._done = True


def carry_out(acts: Sequence[Act], stuck: Callable[[], object]) -> None:
    """Run all acts; an exception raised on the way is re-raised at the end.

    So an interrupt, which may come between any two instructions, finds the step either not begun or
    complete.

    Parameters
    ----------
    acts : sequence of callable
        The acts, in order.
    stuck : callable
        Called if an act fails repeatedly, before the first exception is re-raised.
    """
    place = failures = 0
    raised: BaseException | None = None
    while True:
        try:
            for k in range(place, len(acts)):
                place = k
                acts[k]()
            break
        except BaseException as error:
            raised, failures = raised or error, failures + 1
            fails = isinstance(error, HalfwayError) or failures > _TRIES
            if fails or (isinstance(error, Exception) and failures > 1):
                stuck()
                raise raised from None
    if raised is not None:
        raise raised
