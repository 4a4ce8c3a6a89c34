"""Step counts of parameters, and scalar state, as tensors in torch's state."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Protocol

import torch

from ...arrays.libraries import backend_of
from ...engines import Resident
from ...step.state import Clock, State
from .shards import Tensor

Numbers = dict[str, float]

_version = attrgetter("_version")


class Counts:
    """The 0-d tensors shared by parameters with equal step counts, synchronized with the optimizer.

    Parameters
    ----------
    state : State
        The optimizer's state, which adopts the scalars.
    numbers : sequence of dict
        The scalars of each parameter by our names, including ``step`` and ``skipped``.
    words : mapping of str to str
        Maps our names to torch's, where different.
    skips : bool
        Whether skipped steps are counted.
    """

    def __init__(
        self,
        state: State,
        numbers: Sequence[Numbers],
        words: Mapping[str, str],
        skips: bool,
    ) -> None:
        self._tensors: list[Tensor] = []
        self._versions: list[int] = []
        self.state, self._words, self._skips = state, words, skips
        rows: dict[tuple[float, ...], int] = {}
        self.places = [rows.setdefault(tuple(own.values()), len(rows)) for own in numbers]
        first = {place: own for own, place in zip(numbers, self.places, strict=True)}
        clocks = [self._clock(first[place]) for place in range(len(rows))]
        state.iterations = max(clock.iterations for clock in clocks)
        state.skipped = int(max(own["skipped"] for own in numbers))
        state.clocks, state.clock_of = clocks, self.places
        self._settle()
        self.rows = self._made()

    def _word(self, name: str) -> str:
        return self._words.get(name, name)

    def _clock(self, own: Numbers) -> Clock:
        return Clock(int(own["step"]), {name: own[name] for name in self.state.scalars})

    def of(self, i: int) -> dict[str, Tensor]:
        """Return the tensors of one parameter by their names in torch's state."""
        return self.rows[self.places[i]]

    def part(self) -> None:
        """Give parameters separate step counts from the next step on."""
        state = self.state
        if not state.clocks:
            state.clocks = [Clock(state.iterations, dict(state.scalars))]
            state.clock_of = self.places

    def read(self) -> None:
        """Read values that others have written into the tensors."""
        if list(map(_version, self._tensors)) == self._versions:
            return
        state = self.state
        for k, row in enumerate(self.rows):
            known = self._present()[k]
            before = {**known.scalars, "step": known.iterations}
            own = {name: _number(row[self._word(name)], x) for name, x in before.items()}
            clock = self._clock(own)
            if state.clocks:
                state.clocks[k] = clock
            else:
                state.iterations, state.scalars = clock.iterations, {**clock.scalars}
            if self._skips:
                state.skipped = int(_number(row["skipped"], state.skipped))

    def write(self) -> bool:
        """Update the tensors after a step; return whether any parameter has new tensors."""
        state = self.state
        if (state.clocks or len(self.rows) > 1) and state.clock_of is not self.places:
            self.places = state.clock_of
            self._settle()
            self.rows = self._made()
            return True
        moved = False
        if len(self._tensors) == 1:
            self._tensors[0].fill_(state.iterations)
        else:
            for row, clock in zip(self.rows, self._present(), strict=True):
                for name, value in self._numbers(clock).items():
                    if not isinstance(value, torch.Tensor):
                        row[name].fill_(value)
                    elif row[name].device == value.device:
                        row[name].copy_(value)
                    else:
                        row[name], moved = value.clone(), True
        if moved:
            self._tensors = [x for row in self.rows for x in row.values()]
        self._versions = list(map(_version, self._tensors))
        return moved

    def _settle(self) -> None:
        """Merge the clocks into a single count if all counts are equal."""
        state = self.state
        if len(state.clocks) == 1:
            (clock,) = state.clocks
            state.iterations, state.scalars = clock.iterations, {**clock.scalars}
            state.clocks, state.clock_of = [], []

    def _present(self) -> Sequence[Clock]:
        state = self.state
        return state.clocks or [Clock(state.iterations, state.scalars)]

    def _numbers(self, clock: Clock) -> dict[str, Any]:
        """Return the numbers of a count by torch's names; those on a device as tensors there."""
        scalars: Any = clock.scalars
        known = scalars.on_device() if isinstance(scalars, Resident) else scalars
        found: dict[str, Any] = {self._word(name): value for name, value in known.items()}
        found["step"] = clock.iterations
        return found | ({"skipped": self.state.skipped} if self._skips else {})

    def _made(self) -> list[dict[str, Tensor]]:
        # On the host, whatever torch's default device is.
        made = partial(torch.tensor, dtype=torch.float64, device="cpu")
        rows = [{k: made(float(v)) for k, v in self._numbers(c).items()} for c in self._present()]
        self._tensors = [x for row in rows for x in row.values()]
        self._versions = list(map(_version, self._tensors))
        return rows


def numbers_of(
    entry: Mapping[str, Any], scalars: Mapping[str, float], start: Numbers | None = None
) -> Numbers:
    """Return the scalars of an entry by our names; the initial ones before its first step."""
    if not entry:
        return start or {"step": 0.0, "skipped": 0.0, **scalars}
    names = ("step", "skipped", *scalars)
    return {name: _number(entry.get(name, 0.0), scalars.get(name, 0.0)) for name in names}


def _number(value: Any, unknown: float) -> float:
    """Return the value of a tensor; `unknown` if it has no value."""
    if isinstance(value, torch.Tensor) and not backend_of(value).valued(value):
        return unknown
    if isinstance(value, torch.Tensor) and value.requires_grad:
        raise ValueError(
            "found a scalar in the state of a parameter, such as its step, that requires grad; "
            "counts and other scalars of a state have no derivative here"
        )
    return float(value)


class Counting(Protocol):
    """What has the counts of parameters."""

    def of(self, i: int) -> dict[str, Tensor]:
        """Return the tensors of one parameter by their names in torch's state."""


def put(state: MutableMapping[Tensor, Any], params: Sequence[Tensor], counts: Counting) -> None:
    """Store in each parameter's state the tensors of its count."""
    for i, p in enumerate(params):
        state[p].update(counts.of(i))


def apart(state: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the entries of a state dict, with no tensor shared between parameters.

    Here, parameters share the tensors of their counts. Torch's own classes, and other readers of
    state dicts, increment each parameter's count, so a shared one would count several times.
    """
    seen: set[int] = set()

    def own(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or id(x) not in seen:
            seen.add(id(x))
            return x
        return x.clone()

    return {
        key: {name: own(x) for name, x in entry.items()} if isinstance(entry, Mapping) else entry
        for key, entry in state.items()
    }
