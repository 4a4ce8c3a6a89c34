"""What a contest says of those who run in it, and what they give back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .shapes import SHAPES, elements


@dataclass(frozen=True)
class Peer:
    """One way to take a training step; it runs in a process of its own.

    `module` of this package has ``make(task)``, which returns a `Stepper`. `needs` are the modules
    without which it is left out, `environment` is set before anything is imported. `memory` is what
    it holds at the most, in multiples of parameters, gradients and state.
    """

    name: str
    label: str
    module: str
    form: str = ""
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    memory: float = 1.2


@dataclass(frozen=True)
class Contest:
    """One optimizer on one list of shapes; the first of the peers is the one compared with.

    `moved` is what a step has to read and write, `held` what the arrays take, both in bytes per
    element of the parameters.
    """

    title: str
    optimizer: str
    shape: str
    peers: tuple[Peer, ...]
    moved: float
    held: float

    @property
    def heading(self) -> str:
        """The title, with the shapes."""
        return f"{self.title}, {self.shape}: {SHAPES[self.shape][0]}"

    def task(self, peer: Peer) -> Task:
        """Say what that peer has to do."""
        return Task(self.optimizer, peer.form, self.shape, self.moved, self.held)

    def bytes(self, peer: Peer) -> float:
        """Return the memory that a peer takes."""
        return elements(self.shape) * self.held * peer.memory


@dataclass(frozen=True)
class Task:
    """What a peer is asked for."""

    optimizer: str
    form: str
    shape: str
    moved: float
    held: float


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Stepper:
    """What a peer has made ready.

    `step` takes one step and returns when it is done. `before` is called before each, not timed.
    """

    step: Callable[[], object]
    before: Callable[[], object] = nothing
    note: str = ""
