"""Splitting a list of unnamed arrays into slots.

Keras writes an optimizer's variables as one list. Its order follows from the class and a few
hyperparameters; the number of parameters follows from the list's length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

AVERAGE = "average"
"""The slot of the moving averages of parameters."""

Slots = dict[str, list[Any]]
Shapes = Counter[tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """A possible order of the arrays.

    Attributes
    ----------
    blocks : tuple of str
        Slots stored one after another, each with the arrays of all parameters.
    together : tuple of str
        Slots stored first and interleaved: all of one parameter, then of the next.
    lead : tuple of str
        Blocks of arrays before all slots, which are not part of the rule's state. Only ``average``
        of these is kept.
    placeholders : bool
        Whether there is a trailing array of shape (1,) per parameter.
    """

    blocks: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    lead: tuple[str, ...] = ()
    placeholders: bool = False

    @property
    def per_parameter(self) -> int:
        """The number of arrays per parameter."""
        return len(self.lead) + len(self.together) + len(self.blocks) + self.placeholders

    def __str__(self) -> str:
        names = [*self.lead, *self.together, *self.blocks]
        return " + ".join([*names, *["(1,) placeholders"] * self.placeholders]) or "no slots"


def fit(arrays: Sequence[Any], layout: Layout, within: Shapes | None = None) -> Slots | None:
    """Split the list by a layout, if its length and the shapes allow it.

    Parameters
    ----------
    arrays : sequence
        Objects with a shape.
    layout : Layout
        The assumed order.
    within : Counter, optional
        The count of each shape among the model's variables.
    """
    if layout.per_parameter == 0:
        return {} if not arrays else None
    n, rest = divmod(len(arrays), layout.per_parameter)
    if rest or n == 0:
        return None
    before = {name: list(arrays[i * n : (i + 1) * n]) for i, name in enumerate(layout.lead)}
    arrays = arrays[len(layout.lead) * n :]
    width = len(layout.together)
    slots = {name: list(arrays[i : width * n : width]) for i, name in enumerate(layout.together)}
    blocks = [list(arrays[i : i + n]) for i in range(width * n, len(arrays), n)]
    if layout.placeholders and any(array.shape != (1,) for array in blocks.pop()):
        return None
    slots.update(zip(layout.blocks, blocks, strict=True))
    if AVERAGE in before:
        slots[AVERAGE] = before[AVERAGE]
    shapes = [[array.shape for array in found] for found in slots.values()]
    if any(found != shapes[0] for found in shapes):
        return None
    if within is not None and shapes and Counter(shapes[0]) - within:
        return None
    return slots


def choose(
    arrays: Sequence[Any], layouts: Sequence[Layout], what: str, within: Shapes | None = None
) -> Slots:
    """Split the list by the only layout that fits it.

    Parameters
    ----------
    arrays : sequence
        Objects with a shape.
    layouts : sequence of Layout
        The possible layouts.
    what : str
        The optimizer's name in messages.
    within : Counter, optional
        The count of each shape among the model's variables.

    Raises
    ------
    ValueError
        If none fits, or more than one.
    """
    fits = {layout: fit(arrays, layout, within) for layout in layouts}
    found = {layout: slots for layout, slots in fits.items() if slots is not None}
    if not found and not arrays:
        raise ValueError(
            f"found no slots of {what}, wanted {' or '.join(map(str, layouts))}: the model was "
            "saved before its first training step; train it, then save"
        )
    if not found:
        shapes = ", ".join(str(array.shape) for array in arrays[:12])
        raise ValueError(
            f"found {len(arrays)} slot arrays of {what} with shapes {shapes}"
            f"{', ...' if len(arrays) > 12 else ''}; wanted, for each parameter, "
            f"{' or '.join(map(str, layouts))}, in that order"
        )
    if len(found) > 1:
        raise ValueError(
            f"the {len(arrays)} slot arrays of {what} can be read as "
            f"{' or as '.join(map(str, found))}, and the file does not say "
            "which; save the whole model, with its configuration, instead"
        )
    return next(iter(found.values()))
