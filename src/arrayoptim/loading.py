"""Loading an optimizer from a file."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from .config.keras import translate
from .config.readable import readable
from .finding import deserialize
from .optimizer import Optimizer
from .step.restore import blaming, lost, refuse_lost

if TYPE_CHECKING:
    from . import persistence


def load(filepath: persistence.Place, *, fingerprint: bool = True) -> Optimizer:
    """Make an optimizer with the class, hyperparameters and state in a file.

    Parameters
    ----------
    filepath : str, bytes, Path, binary file or h5py.Group
        A file of this library, or a Keras 2 or Keras 3 model with its configuration.
    fingerprint : bool
        Whether to refuse parameters that are not, bit for bit, those that the state was saved with;
        only a checkpoint of `save_checkpoint` records these.

    Returns
    -------
    Optimizer
        Its state is checked against the parameters by the first `init` or `apply`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file holds no complete optimizer, or not its class and hyperparameters, like Keras 3
        weights files, or if a hyperparameter was a function that is not a registered schedule,
        which files cannot contain.

    Warns
    -----
    UserWarning
        If the file has Keras settings that this library does not support, or lacks a step count
        that further steps depend on; the message lists them.
    """
    from . import persistence

    record = persistence.read(filepath)
    if not fingerprint:
        record.fingerprint = None
    return made(record)


def made(record: persistence.Record, strict: bool = True) -> Optimizer:
    """Return the optimizer that a record describes, with its state.

    Parameters
    ----------
    record : Record
        The contents of a file.
    strict : bool
        Whether to refuse parameters that differ from those of the record.

    Raises
    ------
    ValueError
        As for `load`.
    """
    said = f"{record.origin} does not say"
    if record.class_name and (record.partial or record.config is None):
        raise ValueError(
            f"{said} with which hyperparameters its {readable(record.class_name)} was made, as a "
            f"file with the model's configuration does ({record.source}); construct the "
            "optimizer with them and use load_weights"
        )
    if record.class_name is None or record.config is None:
        raise ValueError(
            f"{said} which optimizer it is of ({record.source}); construct the "
            "optimizer and use load_weights"
        )
    with blaming(record):
        refuse_lost({name: value for name, value in record.config.items() if lost(value)})
        config, left_out = record.config, list[str]()
        if record.dialect is not None:
            config, left_out = translate(record.class_name, config, record.dialect)
        optimizer = deserialize({"class_name": record.class_name, "config": config})
    optimizer._load(record, strict=strict, hyperparameters=False)
    left_out += [*record.unkept, *_count_that_lacks(record, optimizer)]
    if left_out:
        words = readable("; ".join(left_out))
        warnings.warn(f"{record.origin}: left out of it: {words}", stacklevel=3)
    return optimizer


def _count_that_lacks(record: persistence.Record, optimizer: Optimizer) -> list[str]:
    """Return a warning that the file lacks the step count, if later steps depend on it."""
    if record.iterations is not None or not depends_on_count(optimizer):
        return []
    return [
        f"the step count, which the file does not hold and on which {type(optimizer).__name__} "
        "depends: it goes on as from step 0. Set optimizer.iterations to the number of steps taken"
    ]


def depends_on_count(optimizer: Optimizer) -> bool:
    """Whether the next step depends on the number of steps taken before.

    Parameters
    ----------
    optimizer : Optimizer
        An optimizer that Keras 1 or 2 had.
    """
    from .persistence import COUNT_LITTLE

    values = optimizer._hyper.values()
    countless = type(optimizer).__name__ in COUNT_LITTLE and not optimizer.initial_scalars()
    return not countless or bool(getattr(optimizer, "decay", 0)) or any(map(callable, values))
