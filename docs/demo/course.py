"""What the demo finds out about one optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .data import Floats, Parameters

TOLERANCE = 1e-4
"""Largest deviation allowed between array libraries, relative to the largest parameter."""


@dataclass
class Resumed:
    """How a resumed run compares with the uninterrupted one.

    Parameters
    ----------
    backend : str
        Where it was resumed.
    exact : bool
        Whether it is held to equality bit for bit, as on the same backend.
    losses : ndarray of float32, shape (steps after the checkpoint,)
        The loss of each step.
    identical : bool
        Whether all parameters at the end and all losses are the same bits.
    deviation : float
        The largest difference of any parameter at the end, relative to the largest parameter.
    early : float
        The largest relative difference of the losses of the first three steps.
    """

    backend: str
    exact: bool
    losses: Floats
    identical: bool
    deviation: float
    early: float = math.nan

    @property
    def agrees(self) -> bool:
        """Whether the run agrees as it should; a deviation of NaN does not.

        Signs, estimates and eigenvectors make the last bits of gradients grow, step by step: a
        state that was read wrongly shows in the first steps.
        """
        near = self.deviation <= TOLERANCE or self.early <= TOLERANCE
        return self.identical or (not self.exact and near)


@dataclass
class Course:
    """What became of one optimizer.

    Parameters
    ----------
    name, settings : str
        The optimizer, and its hyperparameters in words.
    losses : ndarray of float32, shape (steps,)
        The loss of each step of the uninterrupted run.
    final_loss : float
        The mean over the last epoch.
    params : dict
        Its last parameters, on the host.
    accuracy : float
        The share of test samples that they classify correctly.
    speed : float
        Steps per second, gradients included, the first step left out.
    resumed : list of Resumed
        The runs that went on from its checkpoint.
    rivals : dict
        Test accuracy of other libraries' counterparts, by library.
    """

    name: str
    settings: str
    losses: Floats
    final_loss: float
    params: Parameters
    accuracy: float
    speed: float
    resumed: list[Resumed] = field(default_factory=list)
    rivals: dict[str, float] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether every resumed run agrees."""
        return all(run.agrees for run in self.resumed)
