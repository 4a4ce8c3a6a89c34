"""What an optimizer holds is free at once when it goes, without the garbage collector."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao


@pytest.fixture(autouse=True, scope="module")
def frozen() -> Iterator[None]:
    """Keep what other tests have made out of the collector's way, so that it is quick."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Switch the garbage collector off."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def params() -> dict[str, Any]:
    return {"a": np.ones((3, 4), "f4"), "b": np.ones(5)}


def steps(optimizer: Any) -> None:
    given = params()
    for _ in range(3):
        given = optimizer.apply(params(), given)


def saved(optimizer: Any, tmp_path: Path) -> None:
    steps(optimizer)
    optimizer.save_weights(tmp_path / "w.h5")
    optimizer.load_weights(tmp_path / "w.h5")


def refused(optimizer: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tree"):
        optimizer.apply({"a": np.ones(2)}, params())


USES: dict[str, Callable[[Any, Path], object]] = {
    "made": lambda o, tmp_path: None,
    "with state": lambda o, tmp_path: o.init(params()),
    "stepped": lambda o, tmp_path: steps(o),
    "saved": saved,
    "looked at": lambda o, tmp_path: (steps(o), repr(o), o.last_step, o.get_config()),
    "pure": lambda o, tmp_path: o.stateless_apply(o.init_state(params()), params(), params()),
    "refused": refused,
}
MADE: dict[str, Callable[[], Any]] = {
    "Adam": ao.Adam,
    "with groups": lambda: ao.SGD(momentum=0.9, groups=[ao.group("b", optimizer=ao.Adam())]),
    "with a schedule": lambda: ao.Adam(lr=ao.schedules.CosineDecay(0.1, 10), clipnorm=1.0),
    "array engine": lambda: ao.Muon(),
    "Lookahead": lambda: ao.Lookahead(ao.Adam()),
    "GradientAccumulation": lambda: ao.GradientAccumulation(ao.SGD(momentum=0.5), every=2),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", MADE)
def test_freed(kind: str, use: str, tmp_path: Path) -> None:
    """Of every kind, after every use; so is its state."""
    optimizer = MADE[kind]()
    if use == "pure" and not hasattr(optimizer, "init_state"):
        return
    if use == "pure" and kind not in ("Adam", "with a schedule"):
        return
    USES[use](optimizer, tmp_path)
    arrays = [weakref.ref(x) for x in optimizer.weights if isinstance(x, np.ndarray)]
    seen = weakref.ref(optimizer)
    del optimizer
    assert seen() is None
    assert all(x() is None for x in arrays)


PEAK = """
import resource
import numpy as np
import arrayoptim as ao
params = [np.ones(2**24, "f4")]
optimizer = ao.{0}
small = ao.{0}
small.init([np.ones(999, "f4")])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
optimizer.init(params)
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
kept = sum(x.nbytes for x in optimizer.weights if isinstance(x, np.ndarray))
print(peak / kept)
"""


@pytest.mark.parametrize(
    "optimizer",
    [
        "Adam()",
        "Adam(state_dtype='int8')",
        "Adagrad(initial_accumulator_value=0.1, state_dtype='int8')",
        "Adam(state_dtype='bfloat16')",
    ],
)
def test_no_more_memory_than_is_kept(optimizer: str) -> None:
    """Making the state takes no arrays besides its own."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK.format(optimizer)],
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    assert float(done.stdout) < 1.2


@pytest.mark.needs("torch")
def test_of_torch() -> None:
    """An optimizer of torch's form goes at once too; the first import leaves circles of its own."""
    import torch

    def state_of_one() -> weakref.ref[Any]:
        p = torch.ones(3, requires_grad=True)
        optimizer = ao.torch.Adam([p])
        for _ in range(2):
            p.grad = torch.ones(3)
            optimizer.step()
        return weakref.ref(optimizer.state[p]["exp_avg"])

    state_of_one()
    gc.collect()
    assert state_of_one()() is None
