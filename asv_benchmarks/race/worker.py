"""A process that makes one peer ready and takes its steps when told to."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

from .peer import Peer, Stepper, Task

PATIENCE = 900.0  # seconds; DeepSpeed compiles its C++ when first used


class PeerError(Exception):
    """A peer could not be made ready, or its process died."""


@dataclass(frozen=True)
class Turn:
    """Step for so many seconds, but at least once and at most so many times."""

    seconds: float
    most: int


# The first step compiles; the second may compile again, for what the first has made.
WARM_UP = Turn(seconds=5.0, most=3)


class Worker:
    """The parent's end."""

    def __init__(self, peer: Peer) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, peer.module, dict(peer.environment)), daemon=True
        )
        self._process.start()
        other.close()

    def send(self, request: Task | Turn | None) -> None:
        """Ask for something: to make ready, to step, or with None to let go of everything."""
        try:
            self._pipe.send(request)
        except OSError:
            raise PeerError(self._end()) from None

    def receive(self) -> Any:
        """Wait for the answer: a note, or seconds of each step."""
        try:
            if not self._pipe.poll(PATIENCE):
                self.close()
                raise PeerError(f"no answer within {PATIENCE:.0f} s")
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise PeerError(self._end()) from None
        if isinstance(answer, PeerError):
            raise answer
        return answer

    def ask(self, request: Task | Turn | None) -> Any:
        """Send, and wait for the answer."""
        self.send(request)
        return self.receive()

    def _end(self) -> str:
        self._process.join(5.0)
        return f"its process ended with exit code {self._process.exitcode}"

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, module: str, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    _silence()
    stepper: Stepper | None = None
    while True:
        try:
            request = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        answer: Any = None
        try:
            if isinstance(request, Turn):
                assert stepper is not None
                answer = _turn(stepper, request)
            else:
                stepper = None
                gc.collect()
                if request is not None:
                    stepper = import_module(f"{__package__}.peers.{module}").make(request)
                    _turn(stepper, WARM_UP)
                    answer = stepper.note
        except Exception as error:
            answer = PeerError(f"{type(error).__name__}: {str(error).strip()[:300]}")
        pipe.send(answer)


def _turn(stepper: Stepper, turn: Turn) -> list[float]:
    """Take steps; where there are several, the first only warms caches and wakes threads."""
    times: list[float] = []
    gc.disable()
    while len(times) < turn.most and sum(times) < turn.seconds:
        stepper.before()
        start = perf_counter()
        stepper.step()
        times.append(perf_counter() - start)
    gc.enable()
    return times[1:] or times


def _silence() -> None:
    """Keep the libraries' own messages out of the tables; errors travel through the pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
