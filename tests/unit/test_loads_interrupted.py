"""Loads that are interrupted, wherever: the state is the old one or the new one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao

KINDS: dict[str, Callable[[], Any]] = {
    "Adam": ao.Adam,
    "Lookahead": lambda: ao.Lookahead(ao.Adam(), k=2),
    "nested": lambda: ao.GradientAccumulation(ao.LossScale(ao.SGD(momentum=0.9)), every=2),
}


def trained(kind: str, steps: int) -> Any:
    optimizer, params = KINDS[kind](), [np.ones(4)]
    optimizer.init(params)
    for step in range(steps):
        optimizer.apply([np.full(4, step + 1.0)], params)
    return optimizer


def snapshot(optimizer: Any) -> bytes:
    numbers = [np.float64(optimizer.lr), *optimizer.get_weights()]
    return b"".join(np.asarray(x).tobytes() for x in numbers)


def raise_at(place: int) -> Callable[..., Any]:
    """Return a tracer that raises at that line, counted outside of the reader of files."""
    count = 0

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        name = frame.f_code.co_filename
        if event == "line" and "arrayoptim" in name and "persistence" not in name:
            count += 1
            if count == place:
                raise KeyboardInterrupt
        return trace

    return trace


@pytest.mark.parametrize(
    ("kind", "stride"),
    [("Adam", 9), *(pytest.param(kind, 1, marks=pytest.mark.slow) for kind in KINDS)],
)
def test_at_every_line(kind: str, stride: int, tmp_path: Path) -> None:
    """Hyperparameters and all parts of a wrapper belong to the state; quickly at some lines."""
    source = trained(kind, 3)
    source.lr = 0.25
    source.save_weights(tmp_path / "w.h5")
    wanted, before = snapshot(source), snapshot(trained(kind, 1))
    tracing, place, seen = sys.gettrace(), 0, set()
    while True:
        place += stride
        optimizer, raised = trained(kind, 1), False
        sys.settrace(raise_at(place))
        try:
            optimizer.load_weights(tmp_path / "w.h5")
        except KeyboardInterrupt:
            raised = True
        finally:
            sys.settrace(tracing)
        found = snapshot(optimizer)
        assert found in (before, wanted), place
        seen.add(found)
        if not raised:
            break
    assert place > 100
    assert seen == {before, wanted}
