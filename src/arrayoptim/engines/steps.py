"""A step as engines receive it, and how its parts are completed whatever is raised."""

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
"""A part of a step. Called again after an exception it does what is left; after that, nothing."""

_TRIES = 100


@dataclass(eq=False)
class Counting:
    """State on a device, from which the numbers of a step follow there.

    Attributes
    ----------
    held : sequence of sequence of array
        For each parameter of the tree its state: 0-d arrays of float64 on its device.
    names : tuple of str
        Their names, the count of steps first.
    after : dict of str to Number
        What each is after a step.
    cells : list of Cell
        What the formulas of numbers take besides.
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
        For each compute dtype the rule's coefficients by name, and the numbers of the stages
        that the step has, see `arrayoptim.rules.stages.STAGES`. A list or a `Column` holds one
        number for each parameter of the tree.
    seed : int or None
        The seed of the step where slots are rounded stochastically.
    places : sequence of int
        Places of the parameters among those of the tree.
    computed : Counting or Kept, optional
        Where the numbers are formulas: what the device computes them from.
    """

    layout: Layout
    values: dict[str, dict[str, Scalar | Sequence[Scalar]]]
    seed: int | None
    places: Sequence[int]
    computed: Computed | None = None

    def shared(self, compute: str) -> dict[str, Scalar]:
        """Return the numbers that all arrays with one compute dtype share."""
        return {k: v for k, v in self.values[compute].items() if not isinstance(v, OWN)}

    def own(self, compute: str, i: int) -> dict[str, Scalar]:
        """Return the numbers that belong to the array at one place alone."""
        return {k: v[i] for k, v in self.values[compute].items() if isinstance(v, OWN)}

    def numbers(self, compute: str, i: int) -> dict[str, Scalar]:
        """Return all numbers that the array at one place has."""
        return self.shared(compute) | self.own(compute, i)


class Column(Sequence[Scalar]):
    """Numbers, one for each parameter of the tree, held as an array.

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
"""Types of a value that holds one number for each parameter."""


class HalfwayError(RuntimeError):
    """An act stopped where it can neither continue nor start over."""


class Once:
    """An act made from a function that cannot be resumed after an interrupt.

    Parameters
    ----------
    function : callable
        Does the whole.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self._function, self._begun, self._done = function, False, False

    def __call__(self) -> None:
        """Call the function, unless that has been done."""
        if self._done:
            return
        if self._begun:
            raise HalfwayError("what was interrupted cannot go on")
        self._begun = True
        self._function()
        self._done = True


def carry_out(acts: Sequence[Act], stuck: Callable[[], object]) -> None:
    """Carry out all acts; an exception raised on the way is raised again at the end.

    An interrupt of the program, which may come between any two instructions, so finds either
    nothing done or all of it.

    Parameters
    ----------
    acts : sequence of callable
        What is to be done, in order.
    stuck : callable
        Called where an act fails each time it is tried, before what was raised first is raised.
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
