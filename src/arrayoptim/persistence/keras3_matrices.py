"""Variable lists of Keras 3's optimizers that have different slots for matrices."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from .weight_lists import Slots

Cut = Callable[[Sequence[Any], bool, bool], Slots]


def adafactor(arrays: Sequence[Any], named: bool, padded: bool) -> Slots:
    """Split the variable list of Adafactor.

    Each parameter has a mean square of its own shape, preceded for a matrix by those of rows and
    columns. For a matrix it follows from these two and is not kept.

    Parameters
    ----------
    arrays : sequence
        Objects with a shape.
    named : bool
        Whether the arrays have Keras's own names.
    padded : bool
        Whether two scalars replace rows and columns for parameters without them.

    Raises
    ------
    ValueError
        If the shapes do not match.
    """
    slots: Slots = {"row_velocity": [], "column_velocity": [], "velocity": []}
    rest = list(arrays)
    while rest:
        last = rest.pop()
        matrix = len(last.shape) > 1
        if not matrix:
            slots["velocity"].append(last)
            if not padded:
                continue
        wanted = [last.shape[:-1], last.shape[:-2] + last.shape[-1:]] if matrix else [(), ()]
        if [x.shape for x in rest[-2:]] != wanted:
            raise ValueError(
                f"found shapes {[x.shape for x in rest[-2:]]} before {last.shape} in the state of "
                f"Adafactor, wanted those of its rows and columns, {wanted}"
            )
        columns, rows = rest.pop(), rest.pop()
        if matrix:
            slots["column_velocity"].append(columns)
            slots["row_velocity"].append(rows)
    return {name: column[::-1] for name, column in slots.items() if column}


def muon(arrays: Sequence[Any], named: bool, padded: bool) -> Slots:
    """Split the variable list of Muon: a momentum per parameter, and a velocity if Adam steps it.

    Parameters
    ----------
    arrays : sequence
        Objects with a shape.
    named : bool
        Whether the arrays have Keras's own names. Otherwise Adam steps all but matrices.
    padded : bool
        Ignored.

    Raises
    ------
    ValueError
        If the shapes do not match.
    """
    slots: Slots = {"momentum": [], "velocity": []}
    rest = list(arrays)[::-1]
    while rest:
        first = rest.pop()
        slots["momentum"].append(first)
        if named:
            twice = bool(rest) and bool(re.search(r"velocity(_\d+)?(:\d+)?$", rest[-1].name))
        else:
            twice = len(first.shape) != 2
        if not twice:
            continue
        if not rest or rest[-1].shape != first.shape:
            raise ValueError(
                f"found no velocity after the momentum of shape {first.shape} in the state of "
                "Muon, wanted one of that shape"
            )
        slots["velocity"].append(rest.pop())
    return {name: column for name, column in slots.items() if column}


CUTS: dict[str, Cut] = {"Adafactor": adafactor, "Muon": muon}
"""The function that splits the list, by class."""
