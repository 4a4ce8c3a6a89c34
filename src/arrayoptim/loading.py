"""Making an optimizer from a file."""

from __future__ import annotations

import os
from typing import Any

from ._registry import OPTIMIZERS, WRAPPERS, revivable
from ._restore import blaming
from .optimizer import Optimizer
from .optimizers import deserialize


def load(filepath: str | os.PathLike[str]) -> Optimizer:
    """Make the optimizer whose class, hyperparameters and state a file holds.

    Parameters
    ----------
    filepath : str or Path
        A file of this library, of Keras 2 or of Keras 3.

    Returns
    -------
    Optimizer
        Its state is compared with the parameters when they are first seen, by `init` or `apply`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds no whole optimizer, or does not say of which class, or if a hyperparameter was a
        function that is no registered schedule, which no file can hold.

    Warns
    -----
    UserWarning
        If Keras 3 was asked for what this library cannot honour; the message lists it.
    """
    from . import persistence

    record = persistence.read(filepath)
    if record.class_name is None or record.config is None:
        raise ValueError(
            f"{filepath} does not say which optimizer it is of ({record.source}); construct the "
            "optimizer and use load_weights"
        )
    with blaming(record):
        schedules = [f"{k} ({v})" for k, v in record.config.items() if _lost(v)]
        if schedules:
            raise ValueError(
                f"saved with a schedule for {', '.join(schedules)}; construct the optimizer with "
                "that schedule and use load_weights"
            )
        optimizer = deserialize({"class_name": record.class_name, "config": record.config})
    optimizer._load(record, strict=True, hyperparameters=False)
    return optimizer


def _lost(value: Any) -> bool:
    """Whether it stands for what no file can hold; wrappers hold the optimizer that they wrap."""
    if not isinstance(value, dict) or revivable(value):
        return False
    if value.keys().isdisjoint({"class_name", "unserializable"}):
        return False  # the arguments of an optimizer of another library
    return not (
        OPTIMIZERS.knows(value.get("class_name")) or WRAPPERS.knows(value.get("class_name"))
    )
