"""Presets: the formulas of other libraries, as other forms of the same optimizer."""

from __future__ import annotations

from typing import Any

from .hyper import Hyper

PRESETS = ("keras2", "keras3", "optax", "paper", "torch")
"""Whose formulas can be chosen; the paper's are those of the references in each docstring."""


class Preset(Hyper):
    """The hyperparameter that chooses whose formula is computed."""

    def checked(self, value: Any, owner: type[Any]) -> Any:
        """Return the word, or say which ones the class has."""
        found = super().checked(value, owner)
        if found is not None and found not in owner.presets:
            raise ValueError(
                f"{owner.__name__} has no preset {found!r}; it has "
                f"{', '.join(map(repr, owner.presets)) or 'none'}"
            )
        return found


def forms(same: str = "", **others: str) -> dict[str, str]:
    """Say which form of the update each preset of an optimizer asks for.

    Parameters
    ----------
    same : str
        Presets, with spaces between them, whose formula is that without a preset.
    **others : str
        By the form's name, the presets that ask for it.

    Returns
    -------
    dict of str to str
        The form by preset, in alphabetical order; empty for that without a preset.
    """
    found = {preset: form for form, row in others.items() for preset in row.split()}
    return dict(sorted((dict.fromkeys(same.split(), "") | found).items()))
