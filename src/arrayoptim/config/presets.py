"""Presets: the formulas of other libraries, as alternative forms of the same optimizer."""

from __future__ import annotations

from typing import Any

from .hyper import Hyper

PRESETS = ("keras2", "keras3", "optax", "paper", "torch")
"""The sources that can be chosen; "paper" means the reference in each class's docstring."""


class Preset(Hyper):
    """The hyperparameter that selects the source of formula and defaults."""

    def checked(self, value: Any, owner: type[Any]) -> Any:
        """Return the preset, or raise an error that lists those of the class."""
        found = super().checked(value, owner)
        if found is not None and found not in owner.presets:
            raise ValueError(
                f"{owner.__name__} has no preset {found!r}; it has "
                f"{', '.join(map(repr, owner.presets)) or 'none'}"
            )
        return found


def forms(same: str = "", **others: str) -> dict[str, str]:
    """Return the form of the update that each preset of an optimizer selects.

    Parameters
    ----------
    same : str
        Presets, separated by spaces, that have the default form.
    **others : str
        For the name of each other form, the presets that select it, separated by spaces.

    Returns
    -------
    dict of str to str
        The form by preset, in alphabetical order; ``""`` for the default form.
    """
    found = {preset: form for form, row in others.items() for preset in row.split()}
    return dict(sorted((dict.fromkeys(same.split(), "") | found).items()))
