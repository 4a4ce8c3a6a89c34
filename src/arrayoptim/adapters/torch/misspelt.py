"""Misspelt names of hyperparameters in torch's parameter groups."""

from __future__ import annotations

from collections.abc import Collection

from ...config.registry import mistyped

LOST = {
    "groups": "; torch has parameter groups for that",
    "models": "; torch's interface does not support it: step many with arrayoptim's own classes",
}
"""Names without a counterpart, and why."""

SCHEDULERS = {"initial_lr", "max_lr", "min_lr", "swa_lr", "max_momentum", "base_momentum"}
"""Names that torch's schedulers write into parameter groups."""


def meant(word: str, known: Collection[str]) -> str:
    """Return a hint on what an unknown name must mean; empty if it may be the user's own.

    Parameters
    ----------
    word : str
        The word.
    known : collection of str
        The names of hyperparameters.

    Returns
    -------
    str
        The end of an error message.
    """
    if word in {*LOST, *SCHEDULERS}:
        return LOST.get(word, "")
    bare = word.lower().strip("_")
    # Longer names, such as lr_scale and no_weight_decay, are the user's own.
    parts = {name for name in (*known, "momentum") if f"_{name}_" in f"_{bare}_"} - {bare}
    return mistyped(bare, sorted({*known} - parts))
