"""One checkpoint per optimizer, and one line where there can be none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from arrayoptim._cli.backends import from_host
from arrayoptim._cli.errors import CommandError, one_line
from arrayoptim.arrays.libraries import Backend
from arrayoptim.training.checkpoints import load_checkpoint, save_checkpoint

from .data import Parameters


def write(path: Path, optimizer: Any, params: Any) -> None:
    """Write the optimizer and its parameters to one file.

    Parameters
    ----------
    path : Path
        The file; an older one is replaced.
    optimizer : Optimizer
        The optimizer in the middle of its run.
    params : dict
        Its parameters, in any array library.

    Raises
    ------
    CommandError
        If the file cannot be written.
    """
    try:
        save_checkpoint(path, params, optimizer)
    except OSError as error:
        raise CommandError(f"cannot write the checkpoint {path}: {one_line(error)}") from error


def read(path: Path, like: Parameters, backend: Backend) -> tuple[Any, Any]:
    """Build the optimizer that a file records and read the parameters beside it.

    Parameters
    ----------
    path : Path
        The file.
    like : dict
        Parameters of the structure and the shapes wanted.
    backend : Backend
        The array library in which to go on.

    Returns
    -------
    optimizer : Optimizer
        Of the recorded class, with the recorded hyperparameters and state.
    params : dict
        The backend's arrays.

    Raises
    ------
    CommandError
        If the file is missing, damaged or not this demo's.
    """
    try:
        found = load_checkpoint(path, from_host(like, backend))
    except (OSError, ValueError, KeyError) as error:
        raise CommandError(f"cannot resume from {path}: {one_line(error)}") from error
    return found.optimizer, found.params
