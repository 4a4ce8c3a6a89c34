"""Making an optimizer from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .optimizer import Optimizer
from .optimizers import deserialize
from .step.restore import blaming, lost, refuse_lost

if TYPE_CHECKING:
    from . import persistence


def load(filepath: persistence.Place) -> Optimizer:
    """Make the optimizer whose class, hyperparameters and state a file holds.

    Parameters
    ----------
    filepath : str, bytes, Path, binary file or h5py.Group
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
    said = f"{record.origin} does not say"
    if record.class_name and (record.partial or record.config is None):
        raise ValueError(
            f"{said} with which hyperparameters its {record.class_name} was made, as a file "
            f"with the model's configuration does ({record.source}); construct the "
            "optimizer with them and use load_weights"
        )
    if record.class_name is None or record.config is None:
        raise ValueError(
            f"{said} which optimizer it is of ({record.source}); construct the "
            "optimizer and use load_weights"
        )
    with blaming(record):
        refuse_lost({name: value for name, value in record.config.items() if lost(value)})
        optimizer = deserialize({"class_name": record.class_name, "config": record.config})
    optimizer._load(record, strict=True, hyperparameters=False)
    return optimizer
