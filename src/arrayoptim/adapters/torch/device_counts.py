"""Step counts and scalar state of parameters, on their device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ...step.state import State
from .counts import Numbers
from .shards import Tensor


class DeviceCounts:
    """A count for each parameter, which kernels advance; the host reads it when it is asked for.

    Parameters
    ----------
    state : State
        The optimizer's state.
    numbers : sequence of dict
        For each parameter its numbers by our names, ``step`` and ``skipped`` among them.
    words : mapping of str to str
        Names in torch's state by ours, where they are others.
    device : torch.device
        Where the parameters are.

    Attributes
    ----------
    held : list of list of Tensor
        For each parameter the count and then the scalar state, as 0-d tensors of float64.
    rows : list of dict
        These by their names in torch's state.
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
        """Wait for the device, and tell the optimizer what it has counted."""
        state = self.state
        latest = max(self._table.tolist(), default=[0.0] * (1 + len(state.scalars)))
        state.iterations, state.clocks = int(latest[0]), []
        state.scalars = dict(zip(state.scalars, latest[1:], strict=True))

    def of(self, i: int) -> dict[str, Tensor]:
        """Return the tensors of one parameter by their names in torch's state."""
        return self.rows[i]

    def part(self) -> None:
        """Do nothing: each parameter has a count of its own."""

    def read(self) -> None:
        """Do nothing: a kernel reads what others wrote into the tensors."""

    def write(self) -> bool:
        """Return False: a kernel has updated the tensors."""
        return False
