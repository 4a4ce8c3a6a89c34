"""With which hyperparameters the demo builds each optimizer."""

from __future__ import annotations

from typing import Any

from arrayoptim._cli.errors import CommandError, one_line
from arrayoptim.config import registry as _registry

SETTINGS: dict[str, dict[str, float]] = {
    "ASGD": {"lr": 0.1},
    "AdaMuon": {"lr": 0.01},
    "Adafactor": {"lr": 0.01},
    "Adagrad": {"lr": 0.05},
    "Ftrl": {"lr": 0.1},
    "GaLore": {"lr": 0.03},
    "LAMB": {"lr": 0.01},
    "LARS": {"lr": 1.0},
    "Lion": {"lr": 0.001},
    "Muon": {"lr": 0.01},
    "NorMuon": {"lr": 0.01},
    "RAdam": {"lr": 0.003},
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "Signum": {"lr": 0.001},
}
"""Where an optimizer's own defaults are too slow for a few epochs: what is used instead."""


def build(name: str, lr: float | None) -> Any:
    """Build an optimizer for the demo.

    Parameters
    ----------
    name : str
        A registered name.
    lr : float or None
        The learning rate asked for; None for the table's or the class's own.

    Returns
    -------
    Optimizer
        A new one.

    Raises
    ------
    CommandError
        If the learning rate is outside the interval that the class declares.
    """
    try:
        return _registry.lookup(name)(**chosen(name, lr))
    except (TypeError, ValueError) as error:
        raise CommandError(one_line(error), code=2) from error


def chosen(name: str, lr: float | None) -> dict[str, float]:
    """Return what the demo sets; all else is the class's default.

    Parameters
    ----------
    name : str
        A registered name.
    lr : float or None
        The learning rate asked for.

    Returns
    -------
    dict
        Hyperparameter names and values.
    """
    return SETTINGS.get(name, {}) | ({} if lr is None else {"lr": lr})


def described(name: str, optimizer: Any) -> str:
    """Say in a few words how the demo built an optimizer.

    Parameters
    ----------
    name : str
        A registered name.
    optimizer : Optimizer
        The one that was built.

    Returns
    -------
    str
        The learning rate and all else that is not the class's default.
    """
    values = {"lr": optimizer.lr} | SETTINGS.get(name, {}) | {"lr": optimizer.lr}
    return " ".join(f"{key}={value:g}" for key, value in values.items())
