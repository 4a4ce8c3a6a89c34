"""Making an optimizer from a file."""

from __future__ import annotations

import os

from .config.readable import readable
from .optimizer import Optimizer
from .optimizers import deserialize
from .step.restore import blaming, lost, refuse_lost


def load(filepath: str | os.PathLike[str]) -> Optimizer:
    """Make the optimizer whose class, hyperparameters and state a file holds.

    Parameters
    ----------
    filepath : str or Path
        A file of this library, or a model of Keras 2 or Keras 3 with its configuration.

    Returns
    -------
    Optimizer
        Its state is compared with the parameters when they are first seen, by `init` or `apply`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds no whole optimizer, or does not say of which class and hyperparameters, as the
        weights files of Keras 3, or if a hyperparameter was a function that is no registered
        schedule, which no file can hold.

    Warns
    -----
    UserWarning
        If Keras 3 was asked for what this library cannot honour; the message lists it.
    """
    from . import persistence

    record = persistence.read(filepath)
    if record.class_name and (record.partial or record.config is None):
        raise ValueError(
            f"{record.origin} does not say with which hyperparameters its "
            f"{readable(record.class_name)} was made, "
            f"as a file with the model's configuration does ({record.source}); construct the "
            "optimizer with them and use load_weights"
        )
    if record.class_name is None or record.config is None:
        raise ValueError(
            f"{record.origin} does not say which optimizer it is of ({record.source}); construct "
            "the optimizer and use load_weights"
        )
    with blaming(record):
        refuse_lost({name: value for name, value in record.config.items() if lost(value)})
        optimizer = deserialize({"class_name": record.class_name, "config": record.config})
    optimizer._load(record, strict=True, hyperparameters=False)
    return optimizer
