"""Signals in steps, saves and loads: each comes out as itself, and what it met is whole."""

from __future__ import annotations

import random
import signal
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import arrayoptim as ao
from torture.batches import serve

KINDS = {
    "Adam": ao.Adam,
    "clipped": lambda: ao.SGD(momentum=0.9, clipnorm=1.0, ema_momentum=0.9),
    "Muon": ao.Muon,
    "Lookahead": lambda: ao.Lookahead(ao.Adam(), k=2),
    "GradientAccumulation": lambda: ao.GradientAccumulation(ao.Adam(), every=2),
    "LossScale": lambda: ao.LossScale(ao.SGD(momentum=0.9)),
}
STEPS = 6


class Caught(KeyboardInterrupt):
    """What the signal's handler raises."""


def grads(step: int) -> list[np.ndarray]:
    """Return the gradients of a step."""
    return [np.cos(np.arange(300.0) + step).reshape(20, 15), np.sin(np.arange(4.0) * step)]


def start() -> list[np.ndarray]:
    """Return the parameters before the first step."""
    return [np.linspace(-1, 1, 300).reshape(20, 15), np.ones(4)]


def snapshot(optimizer: Any, params: list[np.ndarray]) -> bytes:
    """Return all that counts, as bytes."""
    return b"".join(np.asarray(x).tobytes() for x in [*params, *optimizer.get_weights()])


@cache
def course(kind: str) -> list[bytes]:
    """Return what there is after each step, undisturbed."""
    optimizer, params = KINDS[kind](), start()
    optimizer.init(params)
    found = [snapshot(optimizer, params)]
    for step in range(STEPS):
        optimizer.apply(grads(step), params)
        found.append(snapshot(optimizer, params))
    return found


def interrupted(call: Any, unit: float, chance: random.Random) -> str:
    """Call with a signal on its way; say what came out."""

    def handler(*_: Any) -> None:
        raise Caught

    signal.signal(signal.SIGALRM, handler)
    words = "not told"
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, unit))
        call()
        until = time.perf_counter() + 0.02 + 3 * unit
        while time.perf_counter() < until:
            pass
    except Caught:
        words = "told"
    except BaseException as error:
        words = f"told as {type(error).__name__}"
    signal.setitimer(signal.ITIMER_REAL, 0)
    return words


def in_steps(kind: str, chance: random.Random) -> str:
    """Interrupt one of some steps."""
    wanted = course(kind)
    optimizer, params = KINDS[kind](), start()
    optimizer.init(params)
    many = chance.randrange(1, STEPS)
    begin = time.perf_counter()
    for step in range(many):
        optimizer.apply(grads(step), params)
    unit = (time.perf_counter() - begin) / many
    words = interrupted(lambda: optimizer.apply(grads(many), params), 1.2 * unit, chance)
    found = snapshot(optimizer, params)
    if found == wanted[many]:
        return f"step: {words}, nothing done"
    if found == wanted[many + 1]:
        return f"step: {words}, all done"
    try:
        optimizer.apply(grads(many), params)
    except RuntimeError:
        return f"step: {words}, said to be cut in two"
    return f"step: {words}, unclean: other numbers ({kind})"


def in_files(kind: str, chance: random.Random, folder: Path) -> str:
    """Interrupt a save or a load."""
    path, optimizer, params = folder / "w.h5", KINDS[kind](), start()
    for step in range(2):
        optimizer.apply(grads(step), params)
    wanted = snapshot(optimizer, params)
    begin = time.perf_counter()
    optimizer.save_weights(path)
    unit = time.perf_counter() - begin
    if chance.random() < 0.5:
        words = "save: " + interrupted(lambda: optimizer.save_weights(path), unit, chance)
        if snapshot(optimizer, params) != wanted:
            return f"{words}, unclean: other numbers"
    else:
        other = KINDS[kind]()
        other.init(params)
        before = snapshot(other, params)
        words = "load: " + interrupted(lambda: other.load_weights(path), unit, chance)
        if snapshot(other, params) not in (before, wanted):
            return f"{words}, unclean: half a state"
    again = KINDS[kind]()
    again.init(params)
    again.load_weights(path)
    if snapshot(again, params) != wanted:
        return f"{words}, lost"
    left = [each for each in folder.iterdir() if each != path]
    return f"{words}, left over" if left else f"{words}, whole"


def case(number: int, folder: Path) -> str:
    """Interrupt one call."""
    chance = random.Random(number)
    kind = chance.choice(list(KINDS))
    if chance.random() < 0.5:
        return in_steps(kind, chance)
    return in_files(kind, chance, folder)


if __name__ == "__main__":
    serve(case)
