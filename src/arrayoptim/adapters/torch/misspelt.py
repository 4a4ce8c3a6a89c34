"""Words with which a user must have meant a hyperparameter, though none has that name."""

from __future__ import annotations

from collections.abc import Collection

from ...config.registry import mistyped

LOST = {
    "groups": "; torch has parameter groups for that",
    "models": "; torch counts no models: step many with arrayoptim's own classes",
}
"""Words that have no counterpart, and why."""

SCHEDULERS = {"initial_lr", "max_lr", "min_lr", "swa_lr", "max_momentum", "base_momentum"}
"""What torch's schedulers write into parameter groups."""


def meant(word: str, known: Collection[str]) -> str:
    """Return what an unknown word must mean; empty where it may be the user's own.

    Parameters
    ----------
    word : str
        The word.
    known : collection of str
        The names of hyperparameters.

    Returns
    -------
    str
        The rest of a message.
    """
    if word in {*LOST, *SCHEDULERS}:
        return LOST.get(word, "")
    bare = word.lower().strip("_")
    # Longer words, such as lr_scale and no_weight_decay, are the user's own.
    parts = {name for name in (*known, "momentum") if f"_{name}_" in f"_{bare}_"} - {bare}
    return mistyped(bare, sorted({*known} - parts))
