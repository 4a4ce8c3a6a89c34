"""One HDF5 file per optimizer: its state and, beside it, the network's parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...arrays.libraries import Backend
from ...loading import load as load_optimizer
from ..backends import from_host, to_host
from ..errors import CommandError, one_line
from .data import Parameters

GROUP = "parameters"


def write(path: Path, optimizer: Any, params: Any) -> None:
    """Write the optimizer's state, then add the parameters to the same file.

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
        optimizer.save_weights(path)
        with h5py.File(path, "a") as file:
            for layer, arrays in to_host(params).items():
                for name, array in arrays.items():
                    file.create_dataset(f"{GROUP}/{layer}/{name}", data=array)
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
        optimizer = load_optimizer(path)
        with h5py.File(path, "r") as file:
            host = {
                layer: {name: _array(file, layer, name, array) for name, array in arrays.items()}
                for layer, arrays in like.items()
            }
        params = from_host(host, backend)
        # Only now, with parameters to compare, is the loaded state checked and put in its place.
        optimizer.init(params)
    except (OSError, ValueError, KeyError) as error:
        raise CommandError(f"cannot resume from {path}: {one_line(error)}") from error
    return optimizer, params


def _array(file: h5py.File, layer: str, name: str, like: np.ndarray) -> np.ndarray:
    """Read one parameter and insist on its shape."""
    array = np.asarray(file[f"{GROUP}/{layer}/{name}"])
    if array.shape != like.shape:
        raise ValueError(f"{layer}/{name} has shape {array.shape}, wanted {like.shape}")
    return array
