"""Probes of the array libraries: which can be used, and why the others cannot."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays.libraries import NAMES, Backend, backend_of, named
from .errors import CommandError, one_line

NO_DEVICE = ("cudaErrorInsufficientDriver", "cudaErrorNoDevice", "libcuda")


@dataclass(frozen=True)
class Probe:
    """The outcome of an attempt to use something.

    Parameters
    ----------
    name : str
        The name of the array library or engine.
    usable : bool
        Whether it works on this machine.
    note : str
        The device that it runs on, or why it does not work.
    """

    name: str
    usable: bool
    note: str


def installed(name: str) -> bool:
    """Whether a module of that name can be found; it is not imported.

    Parameters
    ----------
    name : str
        A top-level module.

    Returns
    -------
    bool
        True if it can be found.
    """
    return importlib.util.find_spec(name) is not None


def probe(name: str) -> Probe:
    """Test an array library with one small sum.

    Parameters
    ----------
    name : str
        One of the supported libraries.

    Returns
    -------
    Probe
        Whether the sum is right, and on which device, or what failed.
    """
    if not installed(name):
        return Probe(name, False, "not installed")
    stage, backend = "import fails", named(name)
    try:
        xp = backend.xp
        stage = "a sum fails"
        array = xp.asarray(np.ones(1, np.float32)) + 1.0
        total = float(backend.to_host(array)[0])
        device = _device(array)
    except Exception as error:  # a broken installation may raise anything
        if any(word in str(error) for word in NO_DEVICE):
            return Probe(name, False, f"no GPU or no driver ({one_line(error)})")
        return Probe(name, False, f"{stage} with {type(error).__name__}: {one_line(error)}")
    if total != 2.0:
        return Probe(name, False, f"computes 1 + 1 = {total}")
    return Probe(name, True, device)


def _device(array: Any) -> str:
    """Return the device of an array as the library names it."""
    device = array.device
    return str(device() if callable(device) else device)


def wanted(name: str) -> Backend:
    """Return the array library of that name, ready for use.

    Parameters
    ----------
    name : str
        One of the supported libraries.

    Returns
    -------
    Backend
        The library's entry.

    Raises
    ------
    CommandError
        If it cannot be used; the message says why, and which can.
    """
    found = probe(name)
    if not found.usable:
        usable = [other for other in NAMES if other != name and probe(other).usable]
        raise CommandError(
            f"backend {name} cannot be used here: {found.note}; usable: {', '.join(usable)}", code=2
        )
    return named(name)


def other_than(name: str) -> Backend:
    """Return another usable array library, or the same one if there is no other.

    Parameters
    ----------
    name : str
        The library that is already in use.

    Returns
    -------
    Backend
        The first other one that works, with the standard's test library last.
    """
    candidates = (other for other in ("torch", "jax", *NAMES) if other != name)
    return named(next((other for other in candidates if probe(other).usable), name))


def to_host(tree: Any) -> Any:
    """Copy a tree of nested dicts of arrays into NumPy arrays.

    Parameters
    ----------
    tree : dict or array
        Arrays of a single library.

    Returns
    -------
    dict or ndarray
        A tree of the same structure.
    """
    if isinstance(tree, dict):
        return {key: to_host(value) for key, value in tree.items()}
    return backend_of(tree).to_host(tree)


def from_host(tree: Any, backend: Backend) -> Any:
    """Copy a tree of nested dicts of NumPy arrays into another library's arrays.

    Parameters
    ----------
    tree : dict or ndarray
        Arrays on the host.
    backend : Backend
        The library.

    Returns
    -------
    dict or array
        A tree of the same structure that shares no memory.
    """
    if isinstance(tree, dict):
        return {key: from_host(value, backend) for key, value in tree.items()}
    return backend.xp.asarray(np.array(tree), copy=True)
