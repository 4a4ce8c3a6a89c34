"""Step counts and scalar state of parameters, in device memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ...step.state import State
from .counts import Numbers
from .shards import Tensor


class DeviceCounts:
    """A step count for each parameter, advanced by kernels and read by the host on demand.

    Parameters
    ----------
    state : State
        The optimizer's state.
    numbers : sequence of dict
        For each parameter its scalar state by our names, including ``step`` and ``skipped``.
    words : mapping of str to str
        Torch's state names by ours, if they differ.
    device : torch.device
        The device of the parameters.

    Attributes
    ----------
    held : list of list of Tensor
        For each parameter its step count, then its scalar state, as 0-d float64 tensors.
    rows : list of dict
        The same tensors by their names in torch's state.
    """

    def __init__(
        self,
        state: State,
        numbers: Sequence[Numbers],
        words: Mapping[str, str],
        device: torch.device,
    ) -> None:
        names = ("step", *state.scalars)
        values = [[float(own[name]) for name in names] for own in numbers]
        self._table = torch.tensor(values, dtype=torch.float64, device=device)
        self.state, self.places = state, list(range(len(numbers)))
        self.held = [list(row.unbind()) for row in self._table.unbind()]
        keys = [words.get(name, name) for name in names]
        self.rows = [dict(zip(keys, row, strict=True)) for row in self.held]
        self.follow()

    def follow(self) -> None:
        """Copy the device's counts and scalar state to the optimizer's state; syncs."""
        state = self.state
        latest = max(self._table.tolist(), default=[0.0] * (1 + len(state.scalars)))
        state.iterations, state.clocks = int(latest[0]), []
        state.scalars = dict(zip(state.scalars, latest[1:], strict=True))

    def of(self, i: int) -> dict[str, Tensor]:
        """Return the tensors of one parameter by their names in torch's state."""
        return self.rows[i]

    def part(self) -> None:
        """Do nothing: each parameter already has its own count."""

    def read(self) -> None:
        """Do nothing: kernels read the tensors, whoever wrote them."""

    def write(self) -> bool:
        """Return False: kernels have updated the tensors."""
        return False
