"""The optimizers for other frameworks, under their names, one module each; see `MODULES`.

A framework is imported on first access to its module, such as ``arrayoptim.torch``.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

MODULES: dict[str, str] = {
    "keras": "keras",
    "mpi": "mpi4py",
    "optax": "jax",
    "scipy": "scipy",
    "torch": "torch",
}
"""Modules of this package, also available in the parent package, and their requirements."""


def adapter(name: str) -> ModuleType:
    """Return one of `MODULES`, with its framework imported.

    Parameters
    ----------
    name : str
        The module's name.

    Raises
    ------
    ModuleNotFoundError
        If the framework is not installed; the message says how to install it.
    """
    try:
        return import_module(f".{name}", __name__)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _packages(name):
            raise
        raise ModuleNotFoundError(
            f"arrayoptim.{name} needs {missing}, which is not installed "
            f'(pip install "arrayoptim[{name}]")',
            name=missing,
        ) from None


def installed() -> list[str]:
    """Return the names of the modules whose frameworks are installed; imports none of them."""
    return [name for name in MODULES if all(map(_found, _packages(name)))]


def _packages(name: str) -> set[str]:
    """Return the packages that must be installed: mostly that name, and its own requirements."""
    return {MODULES[name]} if name == "mpi" else {name, MODULES[name]}


def _found(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # a stand-in module without a spec
        return True
